"""What a decision looked at, step by step. Pure."""

from __future__ import annotations

from collections.abc import Callable

from shared.contracts.routing import TraceStep

#: A trace is kept with every decision.
_LONGEST_DETAIL = 500


class Trace:
    """*elapsed* gives milliseconds since the question."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.steps: list[TraceStep] = []

    @property
    def elapsed_ms(self) -> float:
        return round(self._elapsed(), 2)

    def note(self, step: str, detail: str) -> None:
        if len(detail) > _LONGEST_DETAIL:
            detail = detail[: _LONGEST_DETAIL - 1] + "…"
        # A dozen for each call, and nothing in them to check.
        made = TraceStep.model_construct(step=step, detail=detail, after_ms=self.elapsed_ms)
        self.steps.append(made)

    def back_to(self, length: int) -> None:
        """Forget what was noted after it was that long."""
        del self.steps[length:]

"""What a decision looked at, step by step. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from shared.contracts.routing import TraceStep

#: A trace is kept with every decision.
_LONGEST_DETAIL = 500
#: Thousands of rows can lead to a manager who is busy: of so many steps the first and the last are
#: kept.
_FIRST, _LAST = 200, 100


class Trace:
    """*elapsed* gives milliseconds since the question."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._first: list[TraceStep] = []
        self._last: deque[TraceStep] = deque(maxlen=_LAST)
        self._left_out = 0

    @property
    def steps(self) -> tuple[TraceStep, ...]:
        if not self._left_out:
            return (*self._first, *self._last)
        said = f"{self._left_out} steps are left out here"
        gap = TraceStep(step="trace", detail=said, after_ms=self._first[-1].after_ms)
        return (*self._first, gap, *self._last)

    @property
    def elapsed_ms(self) -> float:
        return round(self._elapsed(), 2)

    def note(self, step: str, detail: str) -> None:
        if len(detail) > _LONGEST_DETAIL:
            detail = detail[: _LONGEST_DETAIL - 1] + "…"
        # A dozen for each call, and nothing in them to check.
        made = TraceStep.model_construct(step=step, detail=detail, after_ms=self.elapsed_ms)
        if len(self._first) < _FIRST:
            self._first.append(made)
            return
        self._left_out += len(self._last) == _LAST
        self._last.append(made)

    def back_to(self, length: int) -> None:
        """Forget what was noted after it was that long; what was left out does not come back."""
        while self._last and len(self.steps) > length:
            self._last.pop()
        if length < len(self._first):
            del self._first[length:]
            self._left_out = 0

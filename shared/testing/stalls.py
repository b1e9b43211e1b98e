"""An event loop whose time stands still while the machine gives this process none."""

from __future__ import annotations

import asyncio
import selectors
import time

#: A loop that waits looks this often; that it was woken later than this was a stall, in seconds.
_STEP, _LATE = 0.05, 0.01


class PatientLoop(asyncio.SelectorEventLoop):
    """
    Its time is what it computed and what it waited, without what the machine took away between: a
    limit of a second ends what really hangs for a second, and nothing else. Runs in the thread
    that made it.
    """

    def __init__(self) -> None:
        self._waiting = _Selector()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.waited + time.thread_time()


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        #: Beside the thread's time: with it the loop's begins as everybody's.
        self.waited = time.monotonic() - time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As ever, but after a step without a word; a loop then asks again."""
        step = _STEP if timeout is None else min(max(timeout, 0.0), _STEP)
        began, used = time.monotonic(), time.thread_time()
        found = super().select(step)
        took, worked = time.monotonic() - began, time.thread_time() - used
        self.waited += min(took, step + _LATE) - worked
        return found

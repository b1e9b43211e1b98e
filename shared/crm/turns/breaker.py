"""When a CRM that does not answer is left alone, and how it is tried again. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

#: Failures in a row, whoever asked.
FAILURES = 5
#: How long nobody asks at first; doubled with each probe that fails too.
OPEN_FOR = timedelta(seconds=2)
LONGEST_OPEN = timedelta(seconds=30)


class Breaker:
    """
    Closed: all may ask. Open: nobody. Half open, from the end of that time: one at a time, the
    probe; its failure opens again, any answer closes.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._length = OPEN_FOR
        self._open_until: datetime | None = None
        self._probing = False
        #: A probe went out and nothing is known of it yet: its verdict may come after its turn.
        self._is_awaited = False

    def shut_for(self, now: datetime) -> timedelta | None:
        """How long a request should stay away; None: it may go, or be the probe."""
        if self._open_until is None:
            return None
        if now < self._open_until:
            return self._open_until - now
        return OPEN_FOR if self._probing else None

    def start(self) -> bool:
        """A request goes out: whether it is the probe, which has to say :meth:`probe_over`."""
        if self._open_until is None:
            return False
        self._probing = self._is_awaited = True
        return True

    def probe_over(self) -> None:
        """With a verdict or without one: it may come later, or never, for a cancelled one."""
        self._probing = False

    def answered(self) -> None:
        self._failures = 0
        self._length = OPEN_FOR
        self._open_until = None
        self._is_awaited = False

    def failed(self, now: datetime) -> bool:
        """Whether it opens by this. What went out before it opened says nothing new."""
        if self._open_until is None:
            self._failures += 1
            if self._failures < FAILURES:
                return False
        elif now < self._open_until or not self._is_awaited:
            return False
        else:
            self._length = min(self._length * 2, LONGEST_OPEN)
        self._open_until = now + self._length
        self._is_awaited = False
        return True

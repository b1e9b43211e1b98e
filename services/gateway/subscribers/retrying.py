"""When a delivery is tried again, and when no more. Pure."""

from __future__ import annotations

from datetime import timedelta

#: Before the second try, the third …: ten tries within sixteen hours.
DELAYS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600)
)
TRIES = len(DELAYS) + 1
_LONGEST = timedelta(days=1)
#: A tenth either way, so that what failed together does not come back together.
_SPREAD = 0.1


def wait_after(tries: int, *, retry_after: timedelta | None, chance: float) -> timedelta | None:
    """
    None after the last try. *retry_after*: as the subscriber asks, which is heeded up to a day;
    *chance*: from 0 to 1.
    """
    if tries >= TRIES:
        return None
    usual = DELAYS[tries - 1] * (1 + _SPREAD * (2 * chance - 1))
    return max(usual, min(retry_after, _LONGEST)) if retry_after is not None else usual

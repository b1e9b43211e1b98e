"""
How often who may ask. Per process: with three gateways a key has three times its rate.

A key has a bucket of tokens that fills at its rate and holds four seconds of it. Who comes with
wrong keys again and again is not looked up in the store any more, for a minute.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from shared.http.peers import network_of

#: A bucket holds what comes in so many seconds.
_HELD_SECONDS = 4
#: Buckets kept; the one that was not used for longest goes, and begins full when it comes again.
_MOST_BUCKETS = 20_000
_MOST_PEERS = 10_000
#: Wrong keys are counted for so long, and who had too many is shut out for as long.
WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Requests a second, and wrong keys a minute; 0 is no limit."""

    rate: int = 0
    #: What PBXs send and ask: hooks and routes.
    traffic_rate: int = 0
    wrong_keys: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """What a key may still ask just now."""

    #: At once, from a full bucket.
    limit: int
    remaining: int
    #: Until the bucket is full.
    reset_seconds: int
    #: None: it was let in.
    wait: timedelta | None


K = TypeVar("K", bound=Hashable)


class Buckets(Generic[K]):
    """Tokens of many, each with its own rate."""

    def __init__(self, most: int = _MOST_BUCKETS) -> None:
        self._most = most
        #: How many tokens there were, and when.
        self._of: OrderedDict[K, tuple[float, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def take(self, key: K, rate: int, now: datetime) -> Left:
        """One token, if there is one."""
        size = rate * _HELD_SECONDS
        tokens, at = self._of.get(key, (float(size), now))
        # A clock that was set back fills nothing.
        passed = max((now - at).total_seconds(), 0.0)
        tokens = min(tokens + passed * rate, float(size))
        wait = None
        if tokens >= 1:
            tokens -= 1
        else:
            wait = timedelta(seconds=(1 - tokens) / rate)
        self._of[key] = (tokens, now)
        self._of.move_to_end(key)
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        return Left(size, int(tokens), math.ceil((size - tokens) / rate), wait)


class Strangers:
    """Who comes with keys that nobody knows; *most* in a minute, or 0 for any number."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: Since when, and how many.
        self._wrong: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        self._shut_until: OrderedDict[str, datetime] = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._wrong), len(self._shut_until))

    def shut_for(self, peer: str, now: datetime) -> timedelta | None:
        """How long nobody is looked up who comes from there; None: he is."""
        if not self._shut_until:
            return None
        until = self._shut_until.get(network_of(peer))
        # One that is further away is of a clock that was set back.
        return until - now if until is not None and now < until <= now + WINDOW else None

    def came_with_wrong_key(self, peer: str, now: datetime) -> None:
        if not self._most:
            return
        network = network_of(peer)
        since, count = self._wrong.pop(network, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        if count + 1 >= self._most:
            self._shut_until[network] = now + WINDOW
            self._shut_until.move_to_end(network)
        else:
            self._wrong[network] = (since, count + 1)
        for kept in (self._wrong, self._shut_until):
            if len(kept) > _MOST_PEERS:
                kept.popitem(last=False)

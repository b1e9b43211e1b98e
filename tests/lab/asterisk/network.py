"""A loopback network that one lab has to itself: labs side by side use the same ports in it."""

from __future__ import annotations

import random
import socket
from types import TracebackType
from typing import Self

_TRIES = 100
#: Bound for as long as the network is taken, by nobody else.
_LOCK = (254, 47474)


class LoopbackNetwork:
    """
    ``127.x.y.0/24``, taken when it is made, given back by ``close``. Hosts: 1 the PBX, 2 the line
    outside, 3 to 63 callers from outside, 64 callmesh, 101 to 199 the phones of those numbers.
    """

    def __init__(self) -> None:
        for _ in range(_TRIES):
            self._prefix = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
            self._lock = socket.socket()
            host, port = _LOCK
            try:
                self._lock.bind((self.host(host), port))
            except OSError:
                self._lock.close()
            else:
                return
        raise RuntimeError("no loopback network is free")

    def host(self, number: int) -> str:
        return f"{self._prefix}.{number}"

    @property
    def pbx(self) -> str:
        return self.host(1)

    @property
    def trunk(self) -> str:
        return self.host(2)

    @property
    def mesh(self) -> str:
        return self.host(64)

    @property
    def outside(self) -> str:
        """Of which calls come over the trunk."""
        return f"{self.host(0)}/26"

    def caller(self, number: int) -> str:
        return self.host(3 + number)

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

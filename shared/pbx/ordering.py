"""An order over a PBX's own protocol, told to whoever keeps a log of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter

from shared.clock import Clock
from shared.errors import MeshError
from shared.pbx.port import OnOrder, SocketOrder


@dataclass(slots=True)
class Said:
    """What the PBX said of it; *error*: why that is no success, where nothing was raised."""

    answer: str | None = None
    error: str | None = None


@contextmanager
def ordering(
    on_order: OnOrder | None, *, protocol: str, name: str, text: str, clock: Clock
) -> Iterator[Said]:
    """What is done within is the order."""
    at, began, said = clock.now(), perf_counter(), Said()
    try:
        yield said
    except MeshError as error:
        said.error = error.message
        raise
    except asyncio.CancelledError:
        said.error = "given up while it was under way"
        raise
    finally:
        if on_order is not None:
            on_order(
                SocketOrder(
                    protocol=protocol,
                    name=name,
                    text=text,
                    at=at,
                    took=timedelta(seconds=perf_counter() - began),
                    answer=said.answer,
                    error=said.error,
                )
            )

"""Cancellations that nobody asked for, made into errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_error(kind: type[Exception], text: str) -> Iterator[None]:
    """
    Raise *kind* for a CancelledError that is not this task's own.

    A task counts its own cancellations. One that it did not count comes out of something it
    waited for, and would end it although nobody wants that: ``except Exception`` lets it through.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    except asyncio.CancelledError:
        if task is not None and task.cancelling() > before:
            raise
        raise kind(text) from None

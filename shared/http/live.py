"""Streams that a client can go on with where it was cut off, here or at another replica."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

S = TypeVar("S", bound=BaseModel)


class Placed(Generic[S]):
    """An event, and the position of who has had it. Many streams send one: it is written once."""

    __slots__ = ("_json", "event", "position")

    def __init__(self, event: S, position: str | None) -> None:
        """*position* None: who has had it goes on from where he was before."""
        self.event = event
        self.position = position
        self._json: str | None = None

    @property
    def json(self) -> str:
        if self._json is None:
            self._json = self.event.model_dump_json(exclude_none=True)
        return self._json


class LiveStream(ABC, Generic[S]):
    """What one client is sent, as long as it listens."""

    @abstractmethod
    async def next(self) -> Placed[S] | None:
        """The next event; None: no more comes. May be cancelled and called again."""

    @property
    @abstractmethod
    def position(self) -> str:
        """Of who has had all that ``next`` gave."""

    @property
    def is_cut(self) -> bool:
        """Whether it ended because the client did not keep up."""
        return False

    async def hear(self, said: Any) -> None:
        """
        What the client said on its socket, by the model that the operation names.

        Raises: MeshError, which the client is told; the stream goes on.
        """

    def close(self) -> None:
        """The client is gone."""

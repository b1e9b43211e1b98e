"""The part that every EventSource has in common whose connection is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

from shared.clock import Clock
from shared.observe.metrics import Metrics
from shared.pbx.intake import Intake, until_one_ends
from shared.pbx.kept import Kept
from shared.pbx.port import Keep, Phones, RecordReader, See

R = TypeVar("R", bound=RecordReader)


class KeptSource(ABC, Generic[R]):
    """An :class:`EventSource`; how one session goes is the kind's own."""

    def __init__(self, kind: str, reader: R, *, host: str, clock: Clock, metrics: Metrics) -> None:
        self._kind = kind
        self._reader = reader
        self._clock = clock
        self._metrics = metrics
        self._kept = Kept(host=host, clock=clock)
        #: Until when the PBX is known to have told everything; None before the first session.
        self._heard: datetime | None = None

    @property
    def connected(self) -> bool:
        return self._kept.connected

    @property
    def fault(self) -> str | None:
        return self._kept.fault

    def know(self, phones: Phones) -> None:
        self._reader.know(phones)

    async def run(self, see: See, keep: Keep) -> None:
        intake = Intake(
            self._kind, self._reader, see, keep, clock=self._clock, metrics=self._metrics
        )
        await until_one_ends(intake.tick(), self._kept.run(partial(self._serve, intake)))

    @abstractmethod
    async def _serve(self, intake: Intake) -> None:
        """
        One session: says ``self._kept.up()`` once its events are sure to come, writes down in
        ``self._heard`` until when they did, and returns or raises MeshError when it is over.
        """

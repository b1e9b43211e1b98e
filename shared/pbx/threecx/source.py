"""Events of a 3CX: each one is asked for, as it says only where something changed."""

from __future__ import annotations

import structlog

from shared.clock import Clock
from shared.errors import ContractError, Forbidden, NotFound, Rejected
from shared.net.client import WebSocket
from shared.observe.metrics import Metrics
from shared.pbx.intake import Inbox, Intake, until_one_ends
from shared.pbx.port import LoginRefused
from shared.pbx.source import KeptSource
from shared.pbx.threecx.api import ThreeCxApi
from shared.pbx.threecx.participants import entity
from shared.pbx.threecx.reader import ThreeCxReader
from shared.pbx.threecx.records import REMOVE, UPSERT, event_of, event_record, state_record

log = structlog.get_logger(__name__)

KIND = "threecx"


class ThreeCxSource(KeptSource[ThreeCxReader]):
    """
    The WebSocket is opened first and the state asked for then, so that nothing is lost in between.
    The state is asked for again when events had to be dropped.
    """

    def __init__(
        self, api: ThreeCxApi, reader: ThreeCxReader, *, clock: Clock, metrics: Metrics
    ) -> None:
        super().__init__(KIND, reader, host=api.host, clock=clock, metrics=metrics)
        self._api = api

    async def _serve(self, intake: Intake) -> None:
        async with self._api.events() as socket:
            await self._follow(socket, intake)

    async def _follow(self, socket: WebSocket, intake: Intake) -> None:
        inbox = Inbox(intake)
        try:
            await until_one_ends(inbox.fill(socket), self._read(inbox, intake))
        finally:
            if self._kept.connected:
                self._heard = self._clock.now()

    async def _read(self, inbox: Inbox, intake: Intake) -> None:
        await self._resync(intake)
        self._kept.up()
        while True:
            await self._take(await inbox.next(), intake)
            if inbox.has_lost():
                await self._resync(intake)

    async def _resync(self, intake: Intake) -> None:
        state = await self._api.get("callcontrol")
        now = self._clock.now()
        await intake.take(state_record(state, at=now, heard=self._heard or now))

    async def _take(self, text: str, intake: Intake) -> None:
        try:
            event = event_of(text)
        except ContractError as error:
            intake.garbage(error.message)
            return
        where, kind = entity(event.get("entity")), event.get("event_type")
        # A tuple: what came may be a list.
        if where is None or kind not in (UPSERT, REMOVE):
            intake.count("ignored")
            return
        participant = None
        if kind == UPSERT:
            try:
                participant = await self._asked(event.get("attached_data"), *where)
            except LoginRefused:
                raise
            except (Forbidden, Rejected, ContractError) as error:
                log.warning("pbx_entity_not_read", dn=where[0], error=error.message)
                intake.count("garbage")
                return
        await intake.take(event_record(event, participant, at=self._clock.now()))

    async def _asked(self, attached: object, dn: str, number: int) -> dict[str, object] | None:
        """None: it was gone by then. Some builds send along what there is to know."""
        if isinstance(attached, dict) and {"status", "callid"} <= attached.keys():
            return attached
        try:
            found = await self._api.get("callcontrol", dn, "participants", str(number))
        except NotFound:
            return None
        if not isinstance(found, dict):
            raise ContractError("3CX answered no participant where one was asked for")
        return found

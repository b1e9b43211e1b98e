"""Events over the WebSocket: subscribed to, kept alive, and asked for after a gap."""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson
import structlog

from shared.clock import Clock
from shared.errors import ContractError, MeshError, Unavailable
from shared.net.client import WebSocket
from shared.observe.metrics import Metrics
from shared.pbx.intake import Inbox, Intake, until_one_ends
from shared.pbx.port import Keep, See
from shared.pbx.source import KeptSource
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.api import YeastarApi
from shared.pbx.yeastar.reader import RESYNC, TOPICS, YeastarReader
from shared.pbx.yeastar.refusals import ApiRejected, refusal

log = structlog.get_logger(__name__)

_OPENING = timedelta(seconds=10)
_ASKING = timedelta(seconds=5)
#: The PBX closes a link on which it heard nothing for 60 s.
HEARTBEAT = timedelta(seconds=20)
#: So long may it take to answer a heartbeat.
PATIENCE = timedelta(seconds=10)
_HEARTBEAT_ANSWER = "heartbeat response"
#: After a gap each call is asked for by itself; a gap with more calls is not asked through.
_MOST_ASKED = 500


class YeastarSource(KeptSource[YeastarReader]):
    def __init__(
        self, api: YeastarApi, reader: YeastarReader, *, clock: Clock, metrics: Metrics
    ) -> None:
        super().__init__("yeastar", reader, host=api.host, clock=clock, metrics=metrics)
        self._api = api

    async def run(self, see: See, keep: Keep) -> None:
        try:
            await super().run(see, keep)
        finally:
            await self._api.leave()

    async def _serve(self, intake: Intake) -> None:
        heard = self._heard or self._clock.now()
        async with self._api.subscribed(within=_OPENING) as socket:
            inbox = Inbox(intake)
            await socket.send(orjson.dumps({"topic_list": list(TOPICS)}).decode())
            await until_one_ends(
                self._listen(socket, inbox, intake),
                self._work(inbox, intake, heard),
                self._keep_alive(socket),
            )

    async def _listen(self, socket: WebSocket, inbox: Inbox, intake: Intake) -> None:
        """The socket is emptied whatever the handlers do, so that it is seen to live."""
        while True:
            try:
                text = await socket.receive()
            except ContractError as error:
                intake.garbage(error.message)
                continue
            self._heard = self._clock.now()
            if text.strip() != _HEARTBEAT_ANSWER:
                inbox.put(text)

    async def _work(self, inbox: Inbox, intake: Intake, heard: datetime) -> None:
        await self._subscription(inbox, intake)
        self._kept.up()
        await intake.take(await self._asked(heard))
        while True:
            await intake.take((await inbox.next()).encode())
            if inbox.has_lost():
                await intake.take(await self._asked(self._clock.now()))

    async def _subscription(self, inbox: Inbox, intake: Intake) -> None:
        """Until the PBX takes it; events may come before its word. Raises: ApiRejected."""
        while True:
            text = await inbox.next()
            try:
                said = fields.load(text, "the answer to a subscription")
            except ContractError as error:
                intake.garbage(error.message)
                continue
            if "errcode" not in said:
                await intake.take(text.encode())
            elif said["errcode"] == 0:
                return
            else:
                raise refusal("subscribe", said["errcode"], said.get("errmsg"))

    async def _keep_alive(self, socket: WebSocket) -> None:
        while True:
            asked_at = self._clock.now()
            await socket.send("heartbeat")
            await self._clock.sleep(PATIENCE)
            if self._heard is None or self._heard < asked_at:
                raise Unavailable(f"{self._api.host} answers no heartbeat")
            if not self._kept.connected:
                raise Unavailable(f"{self._api.host} does not answer the subscription to events")
            await self._clock.sleep(HEARTBEAT - PATIENCE)

    async def _asked(self, heard: datetime) -> bytes:
        """
        What goes on at the PBX, as a record that the reader takes: of each call that was going on
        whether it still does, and the calls that began meanwhile, where its firmware lists them.
        A call that began and ended in the gap is not told by anybody.
        """
        live: dict[str, object] = {}
        gone: list[str] = []
        always: set[int] = set()
        try:
            for way in ("inbound", "outbound"):
                try:
                    live |= await self._calls({"type": way})
                except ApiRejected as error:
                    always.add(error.errcode)
            for call_id in [call for call in self._reader.live if call not in live][:_MOST_ASKED]:
                try:
                    live |= await self._calls({"call_id": call_id})
                except ApiRejected as error:
                    # There is no number for "no such call"; what is refused always is another.
                    if error.errcode in always or error.token_ended:
                        continue
                if call_id not in live:
                    gone.append(call_id)
        except MeshError as error:
            # Events wait meanwhile: who does not answer is not asked on.
            log.warning("yeastar_not_asked", host=self._api.host, error=error.message)
        said = {"gone": gone, "events": list(live.values()), "heard_until": heard.isoformat()}
        return orjson.dumps({RESYNC: said})

    async def _calls(self, query: dict[str, str]) -> dict[str, object]:
        """By the PBX's own ids. Raises: as `ask`."""
        answer = await self._api.ask("GET", "call/query", within=_ASKING, query=query)
        data = answer.data.get("data")
        calls = data if isinstance(data, list) else [data]
        return {
            call_id: call
            for call in calls
            if isinstance(call, dict) and (call_id := fields.text(call.get("call_id")))
        }

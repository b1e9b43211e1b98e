"""Events of a Wazo, by its WebSocket."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.errors import ContractError, Forbidden, Unavailable
from shared.net.client import WebSocket
from shared.observe.metrics import Metrics
from shared.pbx.intake import Inbox, Intake, until_one_ends
from shared.pbx.jsonhttp import WITHIN
from shared.pbx.port import LoginRefused
from shared.pbx.source import KeptSource
from shared.pbx.wazo.api import RENEW_AFTER, WazoApi
from shared.pbx.wazo.fields import text_in, values_of, whole_in
from shared.pbx.wazo.reader import WazoReader

log = structlog.get_logger(__name__)

KIND = "wazo"
_RENEW_AGAIN = timedelta(minutes=1)


class WazoSource(KeptSource[WazoReader]):
    """
    Subscribed first and asked for the calls then, so that nothing is lost in between; asked again
    when events had to be dropped. The token is renewed over the open WebSocket.
    """

    def __init__(self, api: WazoApi, reader: WazoReader, *, clock: Clock, metrics: Metrics) -> None:
        super().__init__(KIND, reader, host=api.host, clock=clock, metrics=metrics)
        self._api = api

    async def _serve(self, intake: Intake) -> None:
        async with self._api.events() as socket:
            await greeted(socket, self._api.host)
            for name in self._reader.wanted:
                await socket.send(_order("subscribe", event_name=name))
            await socket.send(_order("start"))
            inbox = Inbox(intake)
            try:
                await until_one_ends(
                    inbox.fill(socket), self._read(inbox, intake), self._renew(socket)
                )
            finally:
                if self._kept.connected:
                    self._heard = self._clock.now()

    async def _read(self, inbox: Inbox, intake: Intake) -> None:
        await self._started(inbox, intake)
        await self._resync(intake)
        self._kept.up()
        while True:
            await self._take(await inbox.next(), intake)
            if inbox.has_lost():
                await self._resync(intake)

    async def _started(self, inbox: Inbox, intake: Intake) -> None:
        """Wazo has heard all of the subscriptions; events may come before it says so."""
        try:
            async with asyncio.timeout(WITHIN.total_seconds()):
                while await self._take(await inbox.next(), intake) != "start":
                    pass
        except TimeoutError:
            raise Unavailable(f"{self._api.host} did not start to send events") from None

    async def _take(self, text: str, intake: Intake) -> str:
        """Which kind of message it was."""
        record = text.encode(errors="replace")
        try:
            message = values_of(record)
        except ContractError as error:
            intake.garbage(error.message)
            return ""
        op = text_in(message, "op")
        if op == "event":
            await intake.take(record)
        elif whole_in(message, "code"):
            log.warning("pbx_refuses", kind=KIND, op=op, code=message.get("code"))
        return op

    async def _resync(self, intake: Intake) -> None:
        try:
            told = await self._api.get("api", "calld", "1.0", "calls")
        except LoginRefused:
            raise
        except Forbidden as error:
            log.warning("pbx_resync_refused", kind=KIND, error=error.message)
            return
        items = told.get("items") if isinstance(told, dict) else None
        if not isinstance(items, list):
            raise Unavailable(f"{self._api.host} answered no list of calls")
        heard = (self._heard or self._clock.now()).isoformat()
        record = {"op": "resync", "data": {"items": items}, "heard": heard}
        await intake.take(json.dumps(record, separators=(",", ":")).encode())

    async def _renew(self, socket: WebSocket) -> None:
        """Wazo closes the WebSocket of a token that has expired."""
        token = await self._api.token()
        while True:
            age = self._clock.now() - token.got_at
            await self._clock.sleep(max(RENEW_AFTER - age, _RENEW_AGAIN))
            try:
                token = await self._api.token()
            except Unavailable as error:
                # The one that the WebSocket has is good for some time yet.
                log.warning("pbx_token_not_renewed", kind=KIND, error=error.message)
            else:
                await socket.send(_order("token", token=token.text))


async def greeted(socket: WebSocket, host: str) -> None:
    """Raises: Unavailable when Wazo does not say ``init``."""
    try:
        async with asyncio.timeout(WITHIN.total_seconds()):
            message = values_of((await socket.receive()).encode(errors="replace"))
    except (TimeoutError, ContractError):
        message = {}
    if message.get("op") != "init" or whole_in(message, "code"):
        raise Unavailable(
            f"{host} opened a WebSocket and does not greet: wazo-websocketd is asked for version 2 "
            "of its protocol; see that it runs and is not older"
        )


def _order(op: str, **data: str) -> str:
    return json.dumps({"op": op, "data": data})

"""What an administrator would try: reach it, log in, compare clocks, ask for events."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import orjson
from yarl import URL

from shared.clock import Clock
from shared.errors import MeshError
from shared.net.client import HttpClient
from shared.pbx.port import Finding
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.api import ApiAnswer, YeastarApi
from shared.pbx.yeastar.reader import TOPICS
from shared.pbx.yeastar.refusals import NO_SUCH_INTERFACE, ApiRejected
from shared.pbx.yeastar.settings import YeastarSettings

_WITHIN = timedelta(seconds=5)
_CLOCK_OFF = timedelta(seconds=5)
#: Local times that differ by less are of one zone; zones differ by quarters of an hour.
_ZONE_OFF = timedelta(minutes=10)
_QUARTER = timedelta(minutes=15)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_NO_FINGERPRINT = bytes(32)
#: Without these there is no screen pop, and no journal.
_NEEDED = frozenset({30011, 30012})


class YeastarCheck:
    """A login of its own, which is given back: a PBX has eight places for them."""

    def __init__(
        self, settings: YeastarSettings, *, pbx: str, zone: ZoneInfo, http: HttpClient, clock: Clock
    ) -> None:
        self._settings = settings
        self._pbx = pbx
        self._zone = zone
        self._http = http
        self._clock = clock

    async def run(self) -> AsyncIterator[Finding]:
        api = YeastarApi(self._settings, self._http, self._clock)
        where = URL(self._settings.url).authority
        try:
            try:
                await api.ready(within=_WITHIN)
            except MeshError as error:
                yield Finding(f"Open API at {where}", await self._with_fingerprint(error.message))
                return
            yield Finding(f"Open API at {where}")
            async for finding in self._clock_and_zone(api):
                yield finding
            if self._settings.events == "websocket":
                yield Finding("events by WebSocket", await self._subscription(api))
            else:
                yield Finding("events by webhook", await self._webhook(api))
        finally:
            await api.leave()

    async def _with_fingerprint(self, fault: str) -> str:
        """Where no authority signed the certificate: which one it shows."""
        if not self._settings.url.startswith("https:") or self._settings.fingerprint is not None:
            return fault
        if "certificate" not in fault.lower():
            return fault
        # One that fits none is compared before anything is sent.
        try:
            await self._http.send(
                "GET", URL(self._settings.url), within=_WITHIN, fingerprint=_NO_FINGERPRINT
            )
        except MeshError as error:
            if found := _FINGERPRINT.search(error.message):
                return (
                    f"{fault}. Compare this SHA-256 with the one that a browser shows for the web "
                    f"portal, and write it into the site file: `fingerprint: {found[0]}`"
                )
        return fault

    async def _clock_and_zone(self, api: YeastarApi) -> AsyncIterator[Finding]:
        try:
            answer = await api.ask("GET", "system/information", within=_WITHIN)
        except MeshError as error:
            yield Finding("what it says of itself", error.message)
            return
        data = answer.data.get("data")
        said: dict[str, Any] = data if isinstance(data, dict) else {}
        now = self._clock.now()
        theirs = _clock_of(answer, said)
        if theirs is not None:
            yield Finding("its clock", _clock_fault(theirs - now))
        local = fields.local_times(said.get("system_time"))
        if local:
            yield Finding("its time zone", self._zone_fault(local, theirs or now))

    def _zone_fault(self, local: list[datetime], now: datetime) -> str | None:
        ours = now.astimezone(self._zone).replace(tzinfo=None)
        nearest = min(local, key=lambda at: abs(at - ours))
        if abs(nearest - ours) <= _ZONE_OFF:
            return None
        utc = now.astimezone(UTC).replace(tzinfo=None)
        offset = min((at - utc for at in local), key=abs)
        quarters = round(offset / _QUARTER) * _QUARTER
        hours = quarters / timedelta(hours=1)
        return (
            f"it lives at UTC{hours:+g}, and {self._settings.zone} is not there now: set `zone` in "
            "the site file, or System > Date and Time at the PBX"
        )

    async def _subscription(self, api: YeastarApi) -> str | None:
        try:
            async with api.subscribed(within=_WITHIN) as socket:
                await socket.send(orjson.dumps({"topic_list": list(TOPICS)}).decode())
                async with asyncio.timeout(_WITHIN.total_seconds()):
                    said = fields.load(await socket.receive(), "its answer")
                    while "errcode" not in said:  # events of a busy PBX may come before it
                        said = fields.load(await socket.receive(), "its answer")
        except TimeoutError:
            return "it does not answer the subscription"
        except MeshError as error:
            return error.message
        if said["errcode"] == 0:
            return None
        words = (fields.text(said.get("errmsg")) or "no reason")[:200]
        return (
            f"it takes no subscription: {fields.text(said['errcode'])} {words}; see Integrations > "
            "API"
        )

    async def _webhook(self, api: YeastarApi) -> str | None:
        try:
            answer = await api.ask("GET", "webhook/query", within=_WITHIN)
        except ApiRejected as error:
            # Firmware that has webhooks need not show them.
            return None if error.errcode == NO_SUCH_INTERFACE else error.message
        except MeshError as error:
            return error.message
        data = answer.data.get("data")
        said: dict[str, Any] = data if isinstance(data, dict) else {}
        if said.get("enb_webhook_event_push") == 0:
            return "tick Webhook Event Push in Integrations > API"
        entries = said.get("webhook_event_push_list")
        ours = [e for e in entries if self._is_ours(e)] if isinstance(entries, list) else []
        if not ours:
            return (
                "no webhook in Integrations > API leads to us: its URL ends in "
                f"/v1/pbx/{self._pbx}/events?key=…"
            )
        return self._entry_fault(ours[0])

    def _is_ours(self, entry: object) -> bool:
        url = entry.get("url") if isinstance(entry, dict) else None
        if not isinstance(url, str):
            return False
        with suppress(ValueError):
            return urlsplit(url).path.endswith(f"/v1/pbx/{self._pbx}/events")
        return False

    def _entry_fault(self, entry: dict[str, Any]) -> str | None:
        if str(entry.get("request_method")).upper() != "POST":
            return "set the webhook's Request Method to POST"
        ids = entry.get("event_ids")
        named = ids if isinstance(ids, list) else []
        missing = sorted(needed for needed in _NEEDED if named and needed not in named)
        if missing:
            return f"let the webhook send the events {', '.join(map(str, missing))} too"
        secret, known = entry.get("secret"), self._settings.webhook_secret
        if known is not None and isinstance(secret, str):
            same = hmac.compare_digest(secret.encode(), known.get_secret_value().encode())
            return None if same else "the webhook's Secret is another than `webhook_secret`"
        return None


def _clock_of(answer: ApiAnswer, said: dict[str, Any]) -> datetime | None:
    stamp = said.get("timestamp")
    if isinstance(stamp, int) and not isinstance(stamp, bool):
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(stamp, UTC)
    with suppress(ValueError, TypeError):
        at = parsedate_to_datetime(answer.headers.get("date", ""))
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return None


def _clock_fault(ahead: timedelta) -> str | None:
    if abs(ahead) <= _CLOCK_OFF:
        return None
    seconds = round(abs(ahead).total_seconds())
    side = "ahead of" if ahead > timedelta(0) else "behind"
    return (
        f"it is {seconds} s {side} ours: let both machines take their time from an NTP server "
        "(System > Date and Time)"
    )

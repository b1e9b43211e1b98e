"""A Wazo as the services see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from shared.clock import Clock
from shared.errors import MeshError
from shared.net.client import HttpClient
from shared.observe.metrics import Metrics
from shared.pbx.lines import text_of
from shared.pbx.port import Finding, PbxAdapter, Phones
from shared.pbx.wazo.api import Token, WazoApi
from shared.pbx.wazo.reader import WazoReader
from shared.pbx.wazo.recordings import WazoRecordings
from shared.pbx.wazo.settings import WazoSettings
from shared.pbx.wazo.source import WazoSource, greeted
from shared.pbx.wazo.switchboard import WazoSwitchboard

__all__ = ["WazoSettings", "wazo_adapter"]

#: What each permission is for; the last part of those of events stands for any user.
_NEEDED = {
    "websocketd": "the WebSocket, without which no event comes",
    "events.calls.any": "calls, and with them the screen pop",
    "events.transfers.any": "transfers",
    "events.call_log.created": "recordings, and calls of which nothing else was seen",
    "events.statuses.agents": "what agents are doing",
    "calld.calls.read": "which calls go on when the connection is back",
    "calld.calls.create": "click-to-call",
    "calld.calls.any.delete": "cancelling a click-to-call",
    "confd.users.any.read": "the context that click-to-call dials in",
    "agentd.agents.read": "setting an agent's status",
    "agentd.agents.by-number.any.pause.create": "setting an agent's status",
}
#: Users of these see all events of their tenant; any other only its own.
_SEES_ALL = frozenset({"external_api", "internal"})


def wazo_adapter(
    settings: WazoSettings,
    *,
    tenant: str,
    pbx: str,
    http: HttpClient,
    clock: Clock,
    metrics: Metrics,
    phones: Phones | None = None,
) -> PbxAdapter:
    """
    *phones* where a check can compare them. Without *route*: Wazo's dialplan asks as every
    Asterisk's does, by CURL.
    """

    def api() -> WazoApi:
        return WazoApi(settings, http=http, clock=clock)

    def reader() -> WazoReader:
        return WazoReader(
            tenant=tenant,
            pbx=pbx,
            base=settings.url,
            tenant_uuid=settings.tenant_uuid,
            statuses=settings.statuses,
        )

    return PbxAdapter(
        check=lambda: _check(api(), phones or Phones()),
        source=lambda: WazoSource(api(), reader(), clock=clock, metrics=metrics),
        reader=reader,
        switchboard=lambda: WazoSwitchboard(
            api(), context=settings.context, clock=clock, statuses=settings.statuses
        ),
        recordings=WazoRecordings(api(), http, base=settings.url),
    )


async def _check(api: WazoApi, phones: Phones) -> AsyncIterator[Finding]:
    login = f"login at Wazo {api.host}"
    try:
        token = await api.token()
    except MeshError as error:
        yield Finding(login, error.message)
        return
    yield Finding(login, _purpose_fault(token))
    try:
        has = await api.scopes(*_NEEDED)
    except MeshError as error:
        yield Finding("permissions", error.message)
    else:
        for scope, use in _NEEDED.items():
            if not has[scope]:
                acl = scope.replace("any", "*")
                yield Finding(
                    f"permission {acl}", f"lacks, for {use}: add {acl} to the ACL of its policy"
                )
        if all(has.values()):
            yield Finding("permissions")
    events = "events over the WebSocket"
    try:
        async with api.events() as socket:
            await greeted(socket, api.host)
    except MeshError as error:
        yield Finding(events, error.message)
    else:
        yield Finding(events)
    if unknown := sorted(phones.extensions - set(phones.users.values())):
        yield Finding(
            "agents",
            f"agents without pbx_user: {', '.join(unknown[:20])}; say their users' UUIDs (GET "
            "/api/confd/1.1/users), without which they cannot click to dial",
        )
    yield api.clock_finding()


def _purpose_fault(token: Token) -> str | None:
    metadata = token.told.get("metadata")
    told: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
    purpose = text_of(told.get("purpose"))
    if not purpose or purpose in _SEES_ALL or told.get("admin") is True:
        return None
    return (
        "this user sees only its own calls: make one with purpose external_api in the agents' "
        "tenant (POST /api/auth/0.1/users)"
    )

"""A 3CX v20 as the services see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from shared.clock import Clock
from shared.errors import Forbidden, MeshError
from shared.net.client import HttpClient
from shared.observe.metrics import Metrics
from shared.pbx.port import Finding, PbxAdapter, Phones
from shared.pbx.threecx.api import ThreeCxApi
from shared.pbx.threecx.participants import EXTENSION, state_of
from shared.pbx.threecx.reader import ThreeCxReader
from shared.pbx.threecx.settings import ThreeCxSettings
from shared.pbx.threecx.source import ThreeCxSource
from shared.pbx.threecx.switchboard import ThreeCxSwitchboard

__all__ = ["ThreeCxSettings", "threecx_adapter"]


def threecx_adapter(
    settings: ThreeCxSettings,
    *,
    tenant: str,
    pbx: str,
    http: HttpClient,
    clock: Clock,
    metrics: Metrics,
    phones: Phones | None = None,
) -> PbxAdapter:
    """
    *phones* where a check can compare them. Without *route*: 3CX asks nobody for a destination by HTTP in a way that its Call Control API
    documents.
    """

    def api() -> ThreeCxApi:
        return ThreeCxApi(settings, http=http, clock=clock)

    def reader() -> ThreeCxReader:
        return ThreeCxReader(tenant=tenant, pbx=pbx)

    return PbxAdapter(
        check=lambda: _check(api(), phones or Phones()),
        source=lambda: ThreeCxSource(api(), reader(), clock=clock, metrics=metrics),
        reader=reader,
        switchboard=lambda: ThreeCxSwitchboard(api(), clock=clock),
    )


async def _check(api: ThreeCxApi, phones: Phones) -> AsyncIterator[Finding]:
    login = f"login at 3CX {api.host}"
    try:
        await api.login()
    except MeshError as error:
        yield Finding(login, error.message)
        return
    yield Finding(login)
    state = "calls of the extensions"
    try:
        yield Finding(state, _fault_of(await api.get("callcontrol"), phones))
    except MeshError as error:
        yield Finding(state, error.message)
        return
    events = "events over the WebSocket"
    try:
        async with api.events():
            pass
    except Forbidden as error:
        yield Finding(events, error.message)
    except MeshError as error:
        yield Finding(events, f"{error.message}; let a proxy in between pass WebSockets")
    else:
        yield Finding(events)
    yield api.clock_finding()


def _fault_of(state: Any, phones: Phones) -> str | None:
    """Raises: ContractError."""
    shown = {dn for dn, (kind, _) in state_of(state).items() if kind == EXTENSION}
    if not shown:
        return (
            "3CX shows this API client no extension: open it in Integrations > API and list the "
            "extensions of all agents"
        )
    if missing := sorted(phones.extensions - shown):
        return (
            f"3CX does not show {', '.join(missing[:20])}: list them at the API client in "
            "Integrations > API, or correct the agents of the site file"
        )
    return None

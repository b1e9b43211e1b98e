"""A FreeSWITCH as a PbxAdapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from pydantic import SecretStr

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import BadSetting
from shared.net.guard import GuardedResolver
from shared.observe.metrics import Metrics
from shared.pbx.freeswitch.cdr import RecordHooks
from shared.pbx.freeswitch.checking import check
from shared.pbx.freeswitch.esl_client import EslAddress
from shared.pbx.freeswitch.link import EslEvents
from shared.pbx.freeswitch.reader import FreeSwitchReader
from shared.pbx.freeswitch.route import RouteByHttp
from shared.pbx.freeswitch.switchboard import EslSwitchboard
from shared.pbx.port import Finding, OnOrder, PbxAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSwitchSettings:
    """
    *username* ``user@domain`` of the directory, whose rights can be narrowed; without it the
    password is that of the whole socket. *domain*: of the phones, where it is not FreeSWITCH's
    default; *queue_domain*: what stands behind the @ in names of mod_callcenter's agents.
    *statuses*: our status → mod_callcenter's, where it is another than ours has. *guarded*: *host*
    was not said by the operator, so it leads to where the guard lets alone.
    """

    host: str
    password: SecretStr
    port: int = 8021
    username: str | None = None
    guarded: bool = False
    outbound_context: str = "default"
    domain: str | None = None
    queue_domain: str = "default"
    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)


def freeswitch_adapter(
    settings: FreeSwitchSettings,
    *,
    tenant: str,
    pbx: str,
    clock: Clock,
    metrics: Metrics,
    on_order: OnOrder | None = None,
    names: GuardedResolver | None = None,
) -> PbxAdapter:
    """*names*: needed where the settings are guarded. Raises: BadSetting without."""
    if settings.guarded and names is None:
        raise BadSetting(f"pbx {pbx}: nobody can say whether its host may be called")
    address = EslAddress(
        host=settings.host,
        port=settings.port,
        password=settings.password,
        username=settings.username,
        names=names if settings.guarded else None,
    )
    reader = partial(FreeSwitchReader, tenant=tenant, pbx=pbx, statuses=settings.statuses)

    def source() -> EslEvents:
        return EslEvents(address, reader(), clock=clock, metrics=metrics)

    def switchboard() -> EslSwitchboard:
        return EslSwitchboard(
            address,
            tenant=tenant,
            pbx=pbx,
            context=settings.outbound_context,
            domain=settings.domain,
            queue_domain=settings.queue_domain,
            statuses=settings.statuses,
            clock=clock,
            on_order=on_order,
        )

    def findings() -> AsyncIterator[Finding]:
        return check(address, clock=clock)

    return PbxAdapter(
        check=findings,
        source=source,
        reader=reader,
        hooks=RecordHooks(tenant=tenant, pbx=pbx),
        switchboard=switchboard,
        route=RouteByHttp(),
    )

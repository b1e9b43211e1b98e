"""A FreeSWITCH as a PbxAdapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from shared.clock import Clock
from shared.observe.metrics import Metrics
from shared.pbx.freeswitch.cdr import RecordHooks
from shared.pbx.freeswitch.checking import check
from shared.pbx.freeswitch.esl_client import EslAddress
from shared.pbx.freeswitch.link import EslEvents, EslSwitchboard
from shared.pbx.freeswitch.reader import FreeSwitchReader
from shared.pbx.freeswitch.route import RouteByHttp
from shared.pbx.port import Finding, PbxAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSwitchSettings:
    """
    *username* ``user@domain`` of the directory, whose rights can be narrowed; without it the
    password is that of the whole socket. *domain*: of the phones, where it is not FreeSWITCH's
    default; *queue_domain*: what stands behind the @ in names of mod_callcenter's agents.
    """

    host: str
    password: SecretStr
    port: int = 8021
    username: str | None = None
    outbound_context: str = "default"
    domain: str | None = None
    queue_domain: str = "default"


def freeswitch_adapter(
    settings: FreeSwitchSettings, *, tenant: str, pbx: str, clock: Clock, metrics: Metrics
) -> PbxAdapter:
    address = EslAddress(
        host=settings.host,
        port=settings.port,
        password=settings.password,
        username=settings.username,
    )
    reader = partial(FreeSwitchReader, tenant=tenant, pbx=pbx)

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
            clock=clock,
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

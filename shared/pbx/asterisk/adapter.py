"""An Asterisk as the services see it. Routes are asked by FastAGI (:mod:`fastagi`), or by HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import BadSetting
from shared.net.guard import GuardedResolver
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_connect import AmiAddress
from shared.pbx.asterisk.check import check_asterisk
from shared.pbx.asterisk.reader import AmiReader
from shared.pbx.asterisk.source import AsteriskSource
from shared.pbx.asterisk.switchboard import AsteriskSwitchboard
from shared.pbx.port import (
    EventSource,
    Finding,
    OnOrder,
    PbxAdapter,
    RecordReader,
    Switchboard,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskSettings:
    """
    *technology* of the phones, as channels are named: ``PJSIP``; *outbound_context* dials numbers
    outside. *fingerprint*: SHA-256 of the one certificate that is taken, where *tls* is used.
    *statuses*: our status → the reason of a pause, where it is another than the status. *guarded*:
    *host* was not said by the operator, so it leads to where the guard lets alone.
    """

    host: str
    port: int = 5038
    username: str
    secret: SecretStr
    tls: bool = False
    fingerprint: bytes | None = None
    guarded: bool = False
    technology: str = "PJSIP"
    outbound_context: str = "outbound"
    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)

    @property
    def address(self) -> AmiAddress:
        return AmiAddress(
            host=self.host,
            port=self.port,
            username=self.username,
            secret=self.secret,
            tls=self.tls,
            fingerprint=self.fingerprint,
        )


def asterisk_adapter(
    settings: AsteriskSettings,
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
    address = replace(settings.address, names=names if settings.guarded else None)

    def source() -> EventSource:
        return AsteriskSource(
            address,
            tenant=tenant,
            pbx=pbx,
            clock=clock,
            metrics=metrics,
            statuses=settings.statuses,
        )

    def reader() -> RecordReader:
        return AmiReader(tenant=tenant, pbx=pbx, statuses=settings.statuses)

    def switchboard() -> Switchboard:
        return AsteriskSwitchboard(
            address,
            technology=settings.technology,
            outbound_context=settings.outbound_context,
            statuses=settings.statuses,
            clock=clock,
            on_order=on_order,
        )

    def check() -> AsyncIterator[Finding]:
        return check_asterisk(address, technology=settings.technology, clock=clock)

    return PbxAdapter(check=check, source=source, reader=reader, switchboard=switchboard)

"""The telephony module of ours in a CRM: how it stands, and registering it now."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel

from services.gateway.deps import HttpDeps
from shared.contracts.modules import FetchModule, ModuleRecord, RegisterModule
from shared.errors import Conflict, NeedsReconnect, NotFound, Rejected, Throttled, Unavailable
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromPath, Routes
from shared.ids import Name

#: Two requests to the CRM, which may take twenty seconds each.
_REGISTER_WITHIN = timedelta(seconds=45)

routes: Routes[HttpDeps] = Routes(tag="mesh")


class OfConnection(BaseModel):
    caller: FromKey[Caller]
    connection: FromPath[Name]


@routes(
    "GET", "/v1/crm/{connection}/telephony", scope=Scope.SITE_READ, errors=(NotFound, Unavailable)
)
async def read_telephony(deps: HttpDeps, asked: OfConnection) -> ModuleRecord:
    """How the telephony module of a CRM connection stands.

    It is registered and kept by itself where the connection has `telephony: {registered: true}`;
    this tells when that was done last, what somebody changed in the CRM, which users and shops the
    CRM does not have, and whom it could not show a card.
    """
    deps.connection(asked.caller.tenant, asked.connection)
    return await deps.requester.request(
        FetchModule(connection=asked.connection),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


@routes(
    "POST",
    "/v1/crm/{connection}/telephony/register",
    scope=Scope.CRM_WRITE,
    errors=(NotFound, Conflict, Rejected, Throttled, NeedsReconnect, Unavailable),
)
async def register_telephony(deps: HttpDeps, asked: OfConnection) -> ModuleRecord:
    """Register the telephony module of a CRM connection now, and read it back.

    Needed only by who does not want to wait: it is registered when the site changes, and compared
    every hour.
    """
    tenant = asked.caller.tenant
    deps.connection(tenant, asked.connection)
    await deps.audit.note(
        tenant=tenant,
        key_name=asked.caller.key_name,
        action="register_telephony",
        subject=f"connection {asked.connection}",
    )
    return await deps.requester.request(
        RegisterModule(connection=asked.connection), within=_REGISTER_WITHIN, tenant=tenant
    )

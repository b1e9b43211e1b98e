"""Connecting a CRM by the consent of one of its users: OAuth 2 in the administrator's browser."""

from __future__ import annotations

import re

import structlog
from pydantic import BaseModel, Field

from services.gateway.deps import HttpDeps
from shared.crm.sessions.consent import Connected
from shared.errors import BadSetting, Conflict, MeshError, NotFound, Rejected
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.observe.logging import mask_text
from shared.site.accounts import account_of

log = structlog.get_logger(__name__)

CALLBACK = "/v1/oauth/callback"
#: Who comes back from the CRM has no key; the audit log says so by a name that no key can have.
_NO_KEY = "(consent)"
#: Of RFC 6749: `access_denied`. Anything else is somebody's text, for which this page is no place.
_ERROR = re.compile(r"[a-z_]{1,40}")

routes: Routes[HttpDeps] = Routes(tag="mesh")


class BeginConsent(BaseModel):
    caller: FromKey[Caller]
    connection: FromPath[Name]


class ConsentAddress(BaseModel):
    """To be opened in a browser within ten minutes, by who may consent."""

    url: str


@routes(
    "POST",
    "/v1/crm/{connection}/consent",
    scope=Scope.CRM_WRITE,
    errors=(NotFound, Conflict, Rejected),
)
async def begin_consent(deps: HttpDeps, asked: BeginConsent) -> ConsentAddress:
    """Begin to connect a CRM by the consent of one of its users.

    The CRM sends the browser back to `/v1/oauth/callback` of this gateway's public address, which
    has to be registered there as the redirect URI.
    """
    tenant = asked.caller.tenant
    if deps.public_url is None:
        raise Conflict("Set CALLMESH_PUBLIC_URL first: the CRM sends the browser there.")
    connected = _connected(deps, tenant, asked.connection)
    await deps.audit.note(
        tenant=tenant,
        key_name=asked.caller.key_name,
        action="begin_consent",
        subject=f"connection {asked.connection}",
    )
    try:
        url = await deps.connections.consents().begin(
            connected, redirect_uri=deps.public_url + CALLBACK
        )
    except BadSetting as error:
        raise Conflict(error.message) from error
    return ConsentAddress(url=url)


class FinishConsent(BaseModel):
    state: FromQuery[str] = Field(
        default="", max_length=1000, description="As the CRM was given it: the secret."
    )
    code: FromQuery[str] = Field(
        default="", max_length=8000, description="What is exchanged for the grant."
    )
    error: FromQuery[str] = Field(default="", max_length=1000, description="Why there is no code.")


class ConsentPage(BaseModel):
    connected: bool
    message: str

    def as_text(self) -> str:
        return self.message


@routes("GET", CALLBACK, scope=None, text=True)
async def finish_consent(deps: HttpDeps, asked: FinishConsent) -> ConsentPage:
    """Take the browser back from a CRM's consent; `state` works once and stands for a key.

    A page for people: the status is 200 also where nothing was connected.
    """
    consents = deps.connections.consents()
    try:
        if asked.error or not asked.code:
            await consents.refuse(asked.state)
            reason = asked.error if _ERROR.fullmatch(asked.error) else "it gave no code"
            log.warning("crm_not_connected", reason=reason)
            return _failed(f"the CRM did not consent: {reason}")
        done = await consents.finish(
            asked.state,
            asked.code,
            connected=lambda tenant, name: _connected(deps, tenant, name),
        )
    except MeshError as error:
        log.warning("crm_not_connected", error=error.message)
        return _failed(error.message)
    await _note(deps, done)
    return ConsentPage(
        connected=True,
        message=f"{done.tenant}/{done.connection} is connected. You can close this window.",
    )


def _failed(reason: str) -> ConsentPage:
    return ConsentPage(connected=False, message=f"Not connected: {mask_text(reason)}")


async def _note(deps: HttpDeps, done: Connected) -> None:
    """The connection is made whatever becomes of the note."""
    try:
        await deps.audit.note(
            tenant=done.tenant,
            key_name=_NO_KEY,
            action="finish_consent",
            subject=f"connection {done.connection}",
        )
    except MeshError as error:
        log.error("consent_not_noted", connection=done.connection, error=error.message)  # noqa: TRY400  no traceback


def _connected(deps: HttpDeps, tenant: str, name: str) -> Connected:
    """Raises: NotFound, Conflict for settings that do not fit the template, NeedsReconnect."""
    site, crm = deps.connection(tenant, name)
    try:
        return deps.connections.connected(account_of(site, crm))
    except BadSetting as error:
        raise Conflict(error.message) from error

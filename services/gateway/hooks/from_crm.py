"""
Hooks of CRMs: checked, made durable, and answered before anything is done.

A CRM cannot be asked to send a header, so the API key may be in the URL; what the template asks
for beside it (a signature, a token) is checked here. What is kept is who changed, not the request.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlencode

import orjson
import structlog
from pydantic import BaseModel, JsonValue, RootModel

from services.gateway.deps import HttpDeps
from services.gateway.hooks.counting import HookOutcome, count_refused, count_taken
from services.gateway.hooks.marks import Signed
from shared.contracts.hooks import CrmHookReceived, ReportedContact
from shared.crm.engine.changes import HookRequest
from shared.crm.engine.connector import TemplateConnector
from shared.crm.form.changes import CheckKind, DigestForm, Hook, HookFormat
from shared.errors import NotFound
from shared.http.auth import KEY_PARAMETER, Caller, Scope
from shared.http.routes import FromKey, FromPath, FromRequest, RawRequest, Routes
from shared.ids import Name
from shared.site.accounts import account_of

log = structlog.get_logger(__name__)

#: Of one hook; a CRM that changes more at once does not tell of each.
_MOST_CONTACTS = 2000

routes: Routes[HttpDeps] = Routes(tag="mesh")


class TakeCrmHook(BaseModel):
    caller: FromKey[Caller]
    connection: FromPath[Name]
    request: FromRequest[RawRequest]


class CrmHookAnswer(RootModel[dict[str, JsonValue]]):
    """``changes``: how many contacts were named; or a challenge, as the CRM wants it back."""


@routes(
    "POST",
    "/v1/crm/{connection}/hook",
    scope=Scope.HOOKS_WRITE,
    key_in_query=True,
    errors=(NotFound,),
    refused=count_refused,
)
async def take_crm_hook(deps: HttpDeps, asked: TakeCrmHook) -> CrmHookAnswer:
    """Take a CRM's word of changed contacts.

    Answers when it is durable: at the broker, or in the store's spool while the broker is away.
    The same hook again only has the same contacts forgotten again; one that is signed with its
    time is answered as the first time.
    """
    return await _taken(deps, asked)


@routes(
    "GET",
    "/v1/crm/{connection}/hook",
    scope=Scope.HOOKS_WRITE,
    key_in_query=True,
    errors=(NotFound,),
    refused=count_refused,
)
async def take_crm_hook_by_url(deps: HttpDeps, asked: TakeCrmHook) -> CrmHookAnswer:
    """Take a CRM's word of changed contacts, or its challenge, from the parameters of the URL."""
    return await _taken(deps, asked)


async def _taken(deps: HttpDeps, asked: TakeCrmHook) -> CrmHookAnswer:
    tenant, request = asked.caller.tenant, asked.request
    connector, hook = _hook_of(deps, tenant, asked.connection)
    connector.verify_hook(
        HookRequest(
            method=request.method,
            url=(deps.public_url or request.origin) + request.target,
            query=request.query,
            headers=request.headers,
            body=request.body,
        ),
        now=deps.clock.now(),
    )
    told = _told(hook, request)
    reading = connector.read_hook(told)
    if reading.reply is not None:
        return CrmHookAnswer(reading.reply)
    answer = CrmHookAnswer({"changes": len(reading.changes)})
    digest = hashlib.sha256(told).hexdigest()
    signed = _signed(hook, asked.connection, request, digest)
    if await deps.marks.came(tenant, signed):
        count_taken(deps, HookOutcome.REPLAYED)
        return answer
    contacts = tuple(
        ReportedContact(contact_id=change.contact_id, numbers=change.numbers)
        for change in reading.changes[:_MOST_CONTACTS]
    )
    if len(reading.changes) > _MOST_CONTACTS:
        log.warning("crm_hook_cut_off", connection=asked.connection, changes=len(reading.changes))
    received = CrmHookReceived(connection=asked.connection, contacts=contacts)
    # The same body is the same message: it waits in the spool once. Later it counts anew, for
    # many a CRM says of two changes of a contact the very same.
    message = deps.spool.envelop(received, tenant=tenant, key=f"{asked.connection}/{digest}")
    at_broker = await deps.spool.send(message)
    await deps.marks.note(tenant, signed)
    count_taken(deps, HookOutcome.ACCEPTED if at_broker else HookOutcome.SPOOLED)
    return answer


def _signed(hook: Hook, connection: str, request: RawRequest, digest: str) -> Signed | None:
    """
    *digest* is of what it says: not every signature is over that. None where the signature says nothing of when it was made: of two changes of a contact many a
    CRM says the very same.
    """
    check = hook.check
    has_time = check.timestamp_header is not None and "Timestamp" in check.text
    if check.kind is not CheckKind.HMAC or check.header is None or not has_time:
        return None
    signature = request.headers.get(check.header.lower(), "").strip().removeprefix(check.prefix)
    if check.form is DigestForm.HEX:
        signature = signature.lower()
    return Signed(f"crm/{connection}", f"{signature}/{digest}", keep=2 * check.tolerance)


def _hook_of(deps: HttpDeps, tenant: str, name: str) -> tuple[TemplateConnector, Hook]:
    """Raises: NotFound, and what the connection's own settings say."""
    site, crm = deps.connection(tenant, name)
    connector = deps.connections.connector(account_of(site, crm))
    changes = connector.manifest.changes
    if changes is None or changes.hook is None:
        raise NotFound(f"{connector.manifest.title} sends no hooks: its template has none.")
    return connector, changes.hook


def _told(hook: Hook, request: RawRequest) -> bytes:
    """The body; where there is none, what the URL says, in the hook's format."""
    if request.body:
        return request.body
    ours = {KEY_PARAMETER, hook.check.query}
    parameters = {name: value for name, value in request.query.items() if name not in ours}
    if hook.format is HookFormat.FORM:
        return urlencode(parameters).encode()
    return orjson.dumps(parameters)

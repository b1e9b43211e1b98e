"""
What a CRM's own telephony module sends us: a click on a number, and what its users are doing.

It has no API key: the address holds a token that is signed by us, and the request a client id, which
no other connection has. Whatever is wrong with either is answered with the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

import structlog
from multidict import MultiDict
from pydantic import BaseModel, ValidationError

from services.gateway.deps import HttpDeps
from services.gateway.hooks.counting import OUTCOME, HookOutcome, count_forged, count_taken
from services.gateway.hooks.ordered import when_taken
from shared.contracts.agents import AgentStatusChanged, Side
from shared.contracts.contacts import FetchUsers
from shared.contracts.dialing import DialState, PlaceDial
from shared.crm.port import ClickAsked, CrmConnector, StatusAsked, TakesClicks
from shared.errors import (
    BadSetting,
    Conflict,
    ContractError,
    Forbidden,
    NotFound,
    Throttled,
    TooMany,
    Unavailable,
)
from shared.faults import faults_in
from shared.http.deeds import current_deed
from shared.http.forms import FORM_BODY
from shared.http.lists import Token
from shared.http.routes import FromPath, FromRequest, RawRequest, Routes
from shared.site.accounts import account_of
from shared.site.clicklinks import DIAL, STATUS, Clicker, no_such_address
from shared.site.models import CrmConnection, Site

log = structlog.get_logger(__name__)

#: A click has five parameters of a few words.
_MOST_PARAMETERS, _LONGEST_QUERY = 50, 8000

routes: Routes[HttpDeps] = Routes(tag="mesh")


class FromCrm(BaseModel):
    token: FromPath[Token]
    request: FromRequest[RawRequest]


class ClickTaken(BaseModel):
    """The PBX has taken it: the agent's phone rings, or rings next."""

    dial_id: str
    state: DialState


class StatusTaken(BaseModel):
    """*heeded*: whether it goes on to the PBX; the connection's `status.heed` may say no."""

    heeded: bool


_DIAL_ERRORS = (NotFound, Forbidden, Conflict, TooMany, Throttled, Unavailable)


@routes("GET", DIAL, scope=None, errors=_DIAL_ERRORS, refused=count_forged, is_change=True)
async def take_click(deps: HttpDeps, asked: FromCrm) -> ClickTaken:
    """Dial what a user of the CRM clicked on.

    The address is the one that the CRM's telephony module was registered with; the parameters are
    the CRM's own. The same click within three seconds is the same dial. Anything but 200 is shown by
    the CRM as an error.
    """
    return await _clicked(deps, asked)


@routes("POST", DIAL, scope=None, errors=_DIAL_ERRORS, refused=count_forged)
async def take_click_by_form(deps: HttpDeps, asked: FromCrm) -> ClickTaken:
    """Dial what a user of the CRM clicked on, with the parameters in a form."""
    return await _clicked(deps, asked)


@routes("GET", STATUS, scope=None, status=202, errors=(NotFound, Unavailable), refused=count_forged)
async def take_user_status(deps: HttpDeps, asked: FromCrm) -> StatusTaken:
    """Take what a user of the CRM is doing now.

    The address is the one that the CRM's telephony module was registered with. Answers when it is
    durable; the PBX is told behind it.
    """
    return await _told(deps, asked)


@routes(
    "POST",
    STATUS,
    scope=None,
    status=202,
    errors=(NotFound, Unavailable),
    refused=count_forged,
    is_change=False,
)
async def take_user_status_by_form(deps: HttpDeps, asked: FromCrm) -> StatusTaken:
    """Take what a user of the CRM is doing now, with the parameters in a form."""
    return await _told(deps, asked)


async def _clicked(deps: HttpDeps, asked: FromCrm) -> ClickTaken:
    whose = _whose(deps, asked.token)
    requested_by = f"crm {whose.crm.name}"
    if (deed := current_deed()) is not None:
        # Also one that is refused is found by whose connection it is.
        deed.tenant, deed.key_name, deed.action = whose.site.tenant, requested_by, "dial"
    click = _read(deps, whose, lambda crm: crm.read_click(_parameters(asked.request)))
    extension = await _extension(deps, whose, click.extension, click.user_id)
    said = (click.number, click.shop or "", click.own_number or "")
    dial_id = await deps.click_book.dial_of(whose.site.tenant, whose.crm.name, extension, *said)
    order = _order(deps, click, extension=extension, dial_id=dial_id, requested_by=requested_by)
    # First: an order that is refused for want of its note must not have been given.
    await deps.audit.note(
        tenant=whose.site.tenant,
        key_name=requested_by,
        action="dial",
        subject=f"dial {dial_id} from extension {extension}",
    )
    count_taken(deps, HookOutcome.ACCEPTED)
    tenant = whose.site.tenant
    dial = await deps.requester.request(order, within=deps.ask_within, tenant=tenant)
    dial = await when_taken(deps, dial, tenant=tenant)
    if dial.state is DialState.FAILED:
        raise Conflict(dial.message or "The number could not be dialled.")
    return ClickTaken(dial_id=dial.dial_id, state=dial.state)


async def _told(deps: HttpDeps, asked: FromCrm) -> StatusTaken:
    whose = _whose(deps, asked.token)
    words = whose.crm.status.words
    told = _read(deps, whose, lambda crm: crm.read_status(_parameters(asked.request), words))
    if not whose.crm.status.heed:
        count_taken(deps, HookOutcome.ACCEPTED)
        return StatusTaken(heeded=False)
    changed = AgentStatusChanged(
        extension=await _extension(deps, whose, told.extension, told.user_id),
        status=told.status,
        source=Side.CRM,
        source_name=whose.crm.name,
        own=told.own,
    )
    message = deps.spool.envelop(changed, tenant=whose.site.tenant)
    at_broker = await deps.spool.send(message)
    count_taken(deps, HookOutcome.ACCEPTED if at_broker else HookOutcome.SPOOLED)
    return StatusTaken(heeded=True)


# -- who it is ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Whose:
    site: Site
    crm: CrmConnection
    connector: TakesClicks
    clicker: Clicker


def _whose(deps: HttpDeps, token: str) -> _Whose:
    """Raises: NotFound with the words for all, Unavailable."""
    try:
        clicker = deps.click_links.read(token)
    except NotFound as error:
        raise _nobody(HookOutcome.FORGED) from error
    if not deps.site.loaded:
        raise Unavailable("The sites are not loaded yet.")
    site = deps.site.site(clicker.tenant)
    crm = site.crm_named(clicker.connection) if site else None
    if site is None or crm is None:
        raise _nobody(HookOutcome.UNKNOWN)
    try:
        connector = _taking(deps.connections.connector(account_of(site, crm)))
    except NotFound as error:
        raise _nobody(HookOutcome.UNKNOWN) from error
    except BadSetting as error:
        log.error("crm_click_not_taken", connection=crm.name, error=error.message)  # noqa: TRY400  no traceback
        raise Unavailable("The connection to this CRM has to be mended first.") from error
    if connector is None:
        raise _nobody(HookOutcome.UNKNOWN)
    return _Whose(site, crm, connector, clicker)


def _taking(connector: CrmConnector) -> TakesClicks | None:
    return connector if isinstance(connector, TakesClicks) else None


T = TypeVar("T", ClickAsked, StatusAsked)


def _read(deps: HttpDeps, whose: _Whose, read: Callable[[TakesClicks], T]) -> T:
    """
    What the request says, of a CRM that has the client id. Raises: NotFound as above,
    ContractError.
    """
    try:
        said = read(whose.connector)
    except NotFound as error:
        raise _nobody(HookOutcome.UNKNOWN) from error
    except ContractError:
        count_taken(deps, HookOutcome.UNREADABLE)
        raise
    if not deps.click_links.is_client(whose.clicker, said.client_id):
        log.warning("crm_click_refused", connection=whose.crm.name, reason="not its client id")
        raise _nobody(HookOutcome.FORGED)
    return said


def _nobody(outcome: HookOutcome) -> NotFound:
    error = no_such_address()
    error.details[OUTCOME] = outcome
    return error


def _parameters(request: RawRequest) -> MultiDict[str]:
    """
    Of the URL, and of a form behind it: as they were sent, for one that is there twice is a fault.
    Raises: ContractError.
    """
    pairs = _pairs(request.target.partition("?")[2])
    if request.body and request.headers.get("content-type", "").startswith(FORM_BODY):
        try:
            pairs += _pairs(request.body.decode())
        except UnicodeDecodeError:
            raise ContractError("The form is not UTF-8.") from None
    return MultiDict(pairs)


def _pairs(text: str) -> list[tuple[str, str]]:
    """Raises: ContractError."""
    if len(text) > _LONGEST_QUERY:
        raise ContractError(f"The parameters are longer than {_LONGEST_QUERY} characters.")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise ContractError(f"There are more than {_MOST_PARAMETERS} parameters.") from None


# -- whom it is about ---------------------------------------------------------------------------


async def _extension(
    deps: HttpDeps, whose: _Whose, extension: str | None, user_id: str | None
) -> str:
    """
    The agent's phone: the one that the CRM names, else that of its user. Raises: NotFound,
    Unavailable.
    """
    site, crm = whose.site, whose.crm
    if extension is not None and site.agent_at(extension) is not None:
        return extension
    if user_id is not None:
        for agent in site.agents:
            if agent.users.get(crm.name) == user_id:
                return agent.extension
        known = await deps.requester.request(
            FetchUsers(connection=crm.name), within=deps.ask_within, tenant=site.tenant
        )
        for user in known.users:
            if user.user_id == user_id and user.extension is not None:
                return user.extension
    raise NotFound(
        "No agent of the site has this extension, or is this user: list the phone under `agents`, "
        f"and the user under its `users: {{{crm.name}: …}}`."
    )


def _order(
    deps: HttpDeps, click: ClickAsked, *, extension: str, dial_id: str, requested_by: str
) -> PlaceDial:
    """Raises: ContractError for what no dial can have."""
    try:
        return PlaceDial(
            dial_id=dial_id,
            extension=extension,
            number=click.number,
            # A shop may be named by its own number; one that nobody knows changes nothing.
            shop=click.shop or click.own_number,
            requested_by=requested_by,
            expires_at=deps.clock.now() + deps.dial_within,
        )
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None

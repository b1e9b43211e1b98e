"""
Consent of a CRM's user: OAuth 2 authorization code with PKCE (RFC 6749, RFC 7636).

What was begun is kept in the store under a digest of its ``state``, so that any replica may finish
it, once and within ten minutes. The grant goes sealed into the connection's session document,
where every replica finds it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets as random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from pydantic import SecretStr
from yarl import URL

from shared.clock import Clock
from shared.crm.form.access import Auth, OAuth2
from shared.crm.form.requests import Request
from shared.crm.language.functions import plain_text
from shared.crm.rendering import Scope, render
from shared.crm.sessions.making import Code, SessionMaker
from shared.crm.sessions.oauth import Granted, with_query
from shared.crm.sessions.replies import AuthRequests, ReadAnswer, json_answer
from shared.crm.sessions.session import (
    SESSIONS,
    Session,
    SessionDocument,
    origin_of,
    seal_variables,
    session_key,
)
from shared.errors import BadSetting, ContractError, NeedsReconnect, NotFound, Rejected, Throttled
from shared.moments import Instant
from shared.net.client import HttpClient
from shared.secrets import Sealed, SecretBox
from shared.storage.port import CollectionSpec, Document, DocumentStore, change

log = structlog.get_logger(__name__)

#: A person signs in meanwhile; codes live for 30 seconds (Bitrix24) to 20 minutes (Kommo).
GOOD_FOR = timedelta(minutes=10)
_LONGEST_STATE = 128
#: Entra's codes are about a kilobyte.
_LONGEST_CODE = 4096


class ConsentDocument(Document):
    """``key`` is a digest of the state, so that who reads the store cannot finish it."""

    connection: str
    redirect_uri: str
    verifier: Sealed | None = None
    expires_at: Instant


CONSENTS: CollectionSpec[ConsentDocument] = CollectionSpec(
    name="crm.consents", model=ConsentDocument, expires_by="expires_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A connection as its sessions are made of it; the same values as its SessionKeeper has."""

    tenant: str
    connection: str
    auth: Auth
    scope: Scope = field(repr=False)
    grant: str
    read_answer: ReadAnswer = json_answer
    #: By which it is asked, where that is a client of its own.
    http: HttpClient | None = field(default=None, repr=False, compare=False)


class Consents:
    def __init__(
        self, store: DocumentStore, *, http: HttpClient, secrets: SecretBox, clock: Clock
    ) -> None:
        self._consents = store.collection(CONSENTS)
        self._sessions = store.collection(SESSIONS)
        self._http = http
        self._secrets = secrets
        self._clock = clock

    async def begin(self, connection: Connected, *, redirect_uri: str) -> str:
        """
        The address that an administrator opens. The CRM sends them on to *redirect_uri* with a
        state and a code, or an error.

        Raises: BadSetting for a template that asks for no consent or an address that is none;
        Unavailable while the store is away; what ``discover`` raises.
        """
        oauth2 = _by_consent(connection)
        if not _is_web_address(redirect_uri):
            raise BadSetting("redirect_uri: an http(s) address without a fragment is needed")
        scope, _ = await self._maker(connection).discover(redirect_uri=redirect_uri)
        state = random.token_urlsafe(32)
        verifier = random.token_urlsafe(48) if oauth2.pkce else None
        url = _consent_url(oauth2, scope, state, redirect_uri, verifier)
        document = ConsentDocument(
            key=_digest(state),
            tenant=connection.tenant,
            connection=connection.connection,
            redirect_uri=redirect_uri,
            verifier=self._secrets.seal(SecretStr(verifier)) if verifier is not None else None,
            expires_at=self._clock.now() + GOOD_FOR,
        )
        await self._consents.add(document)
        return str(url)

    async def finish(
        self, state: str, code: str, *, connected: Callable[[str, str], Connected]
    ) -> Connected:
        """
        The connection that now has the grant; *connected* finds it by tenant and name, and may
        raise NotFound. The state is used up, whatever becomes of the code.

        Raises: Rejected for a state that is unknown, used or too old, and for a code that the CRM
        does not take; Unavailable.
        """
        _check("state", state, _LONGEST_STATE)
        _check("code", code, _LONGEST_CODE)
        begun = await self._taken(state)
        connection = connected(begun.tenant, begun.connection)
        _by_consent(connection)
        verifier = None
        if begun.verifier is not None:
            verifier = self._secrets.open(begun.verifier).get_secret_value()
        await self._exchange(connection, Code(code, begun.redirect_uri, verifier))
        log.info("crm_connected", tenant=connection.tenant, connection=connection.connection)
        return connection

    async def refuse(self, state: str) -> None:
        """The CRM's user said no: what was begun is over. Raises: as :meth:`finish`."""
        _check("state", state, _LONGEST_STATE)
        await self._taken(state)

    async def _taken(self, state: str) -> ConsentDocument:
        key = _digest(state)
        with suppress(NotFound):
            begun = await self._consents.get(key)
            # Of two who finish at once one deletes it.
            if await self._consents.delete(key):
                return begun
        raise Rejected("this consent is unknown, used or older than ten minutes: begin again")

    async def _exchange(self, connection: Connected, code: Code) -> None:
        async def keep(granted: Granted) -> None:
            if granted.refresh_token is None:
                log.warning(
                    "consent_without_refresh_token",
                    tenant=connection.tenant,
                    connection=connection.connection,
                )
            await self._store(connection, code, granted.refresh_token, None)

        try:
            session = await self._maker(connection).make(
                keep=keep, code=code, redirect_uri=code.redirect_uri
            )
        except (NeedsReconnect, Throttled) as error:
            raise Rejected(f"connecting failed: {error.message}") from None
        await self._store(connection, code, None, session)

    async def _store(
        self,
        connection: Connected,
        code: Code,
        refresh_token: str | None,
        session: Session | None,
    ) -> None:
        """First the grant, then, where it was of use, the session that it gave."""
        key = session_key(
            connection.tenant, connection.connection, connection.auth, connection.scope
        )
        changes: dict[str, object] = {"grant": connection.grant, "refusal": None}
        if session is None:
            sealed = self._secrets.seal(SecretStr(refresh_token)) if refresh_token else None
            configured = connection.scope.own.get("refresh_token")
            changes |= {
                "refresh_token": sealed,
                "refresh_from": origin_of(str(plain_text(configured))),
                "redirect_uri": code.redirect_uri,
                "consented_at": self._clock.now(),
                "variables": None,
                "spending": False,
                "renewals": 0,
                # Whoever is renewing by the grant before writes nothing any more.
                "lease": "",
                "leased_until": None,
            }
        else:
            changes |= {
                "variables": seal_variables(session.variables, self._secrets),
                "fetched_at": session.fetched_at,
                "good_until": session.good_until,
            }

        def edited(found: SessionDocument | None) -> SessionDocument:
            document = found or SessionDocument(key=key, tenant=connection.tenant)
            # Read again, for the store's own form of what changed.
            return SessionDocument.model_validate({**document.model_dump(), **changes})

        await change(self._sessions, key, edited)

    def _maker(self, connection: Connected) -> SessionMaker:
        return SessionMaker(
            connection.auth,
            connection.scope,
            AuthRequests(connection.http or self._http, self._clock, connection.read_answer),
            again="begin again",
            clock=self._clock,
        )


def _by_consent(connection: Connected) -> OAuth2:
    oauth2 = connection.auth.oauth2
    if oauth2 is None or oauth2.authorize_url is None:
        raise BadSetting(
            f"connection {connection.connection}: its template asks for no consent; what it needs "
            "are its credentials"
        )
    return oauth2


def _consent_url(
    oauth2: OAuth2, scope: Scope, state: str, redirect_uri: str, verifier: str | None
) -> URL:
    rendered = render(Request(url=oauth2.authorize_url or ""), scope)
    if rendered is None:
        raise ContractError("auth.oauth2.authorize_url comes out as nothing")
    parameters = {
        "response_type": "code",
        "client_id": str(plain_text(scope.own.get("client_id"))),
        "redirect_uri": redirect_uri,
        "scope": scope.text(oauth2.scope).strip(),
    }
    parameters |= {name: scope.text(text) for name, text in oauth2.authorize_parameters.items()}
    parameters["state"] = state
    if verifier is not None:
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        parameters |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    return with_query(rendered.url, {name: value for name, value in parameters.items() if value})


def _check(name: str, value: str, longest: int) -> None:
    if not 0 < len(value) <= longest or not value.isascii() or not value.isprintable():
        raise Rejected(f"{name}: one of up to {longest} plain characters is needed")


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _is_web_address(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host) and not url.fragment

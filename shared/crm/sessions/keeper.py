"""
Access tokens: fetched ahead of their end, shared by all replicas through the store, sealed there.

One refresh at a time per connection: CRMs count them (Zoho gives ten in ten minutes) and those
that rotate the refresh token would end each other's. Whoever wins the lease fetches, the others
wait for what it stores. While the store is away each process fetches its own: a ringing call is
worth a token. A CRM that gives none is left in peace, longer each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus

import orjson
import structlog
from pydantic import BaseModel, SecretStr, ValidationError
from yarl import URL

from shared.clock import Clock
from shared.crm.glance import WITHIN, Glance
from shared.crm.language.contexts import query_value
from shared.errors import (
    BadSetting,
    Conflict,
    MeshError,
    NeedsReconnect,
    NotFound,
    Throttled,
    TransientError,
    Unavailable,
)
from shared.faults import faults_in
from shared.moments import Instant
from shared.net.client import Answer, HttpClient
from shared.secrets import Sealed, SecretBox
from shared.storage.port import Collection, CollectionSpec, Document

log = structlog.get_logger(__name__)

#: Fetched so long before the end, so that no request carries a token that ends on its way.
_AHEAD = timedelta(minutes=1)
_LEASE = timedelta(seconds=15)
_POLL = timedelta(milliseconds=100)
_FETCH_WITHIN = timedelta(seconds=10)
#: Where an answer says nothing.
_DEFAULT_LIFE_SECONDS = 3600
#: A CRM that gave no token is asked again after the first, doubled each time up to the second; so
#: is one that did not like the token it gave. Zoho's ten tokens in ten minutes are never used up.
_PATIENCE = timedelta(minutes=1)
_LONGEST_PATIENCE = timedelta(minutes=15)
#: RFC 6749, 4.1.2.1 and 5.2, beside those that begin with ``invalid_``: Zoho has more of them.
_REFUSALS = frozenset({"access_denied", "unauthorized_client", "unsupported_grant_type"})
_LONGEST_REASON = 100


class Refusal(BaseModel):
    """Why the CRM gives no token for a grant, and until when nobody asks for one."""

    throttled: bool
    reason: str
    times: int
    until: Instant

    def error(self, now: datetime) -> TransientError:
        kind = Throttled if self.throttled else NeedsReconnect
        return kind(self.reason, retry_after=self.until - now)


class TokenDocument(Document):
    """``key`` is ``tenant/connection``. Kept sealed, like every secret."""

    grant: str = ""
    access_token: Sealed | None = None
    base_url: str | None = None
    fetched_at: Instant | None = None
    good_until: Instant | None = None
    renewals: int = 0
    refusal: Refusal | None = None
    leased_until: Instant | None = None


TOKENS: CollectionSpec[TokenDocument] = CollectionSpec(name="crm.tokens", model=TokenDocument)


class Token(BaseModel):
    """*renewals*: how many tokens before it were replaced because the CRM did not accept them."""

    access_token: SecretStr
    base_url: str | None = None
    fetched_at: datetime
    good_until: datetime
    renewals: int = 0


class TokenKeeper:
    """*grant* changes with the credentials, so that a token of old ones is not used."""

    def __init__(
        self,
        *,
        tenant: str,
        connection: str,
        url: str,
        credentials: Mapping[str, SecretStr],
        grant: str,
        base_url_path: str | None,
        tokens: Collection[TokenDocument],
        glance: Glance,
        http: HttpClient,
        secrets: SecretBox,
        clock: Clock,
    ) -> None:
        self._key = f"{tenant}/{connection}"
        self._tenant = tenant
        self._url = url
        self._credentials = credentials
        self._grant = grant
        self._base_url_path = base_url_path
        self._tokens = tokens
        self._glance = glance
        self._http = http
        self._secrets = secrets
        self._clock = clock
        self._held: Token | None = None
        self._refusal: Refusal | None = None
        self._one = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()

    async def token(self, *, refused: Token | None = None) -> Token:
        """
        A token that is good for a while. *refused* is one that the CRM did not accept: it is
        replaced, but not while it is fresh, for then the grant lacks a right.

        Raises: NeedsReconnect, Throttled, Unavailable.
        """
        if (held := self._usable(self._held, refused)) is not None:
            return held
        async with self._one:
            if (held := self._usable(self._held, refused)) is not None:
                return held
            self._heed(self._refusal)
            if refused is not None:
                self._refuse_young(refused)
            self._held = await self._shared(refused)
            return self._held

    def _usable(self, token: Token | None, refused: Token | None) -> Token | None:
        if token is None or token.good_until - _AHEAD <= self._clock.now():
            return None
        is_refused = refused is not None and token.access_token == refused.access_token
        return None if is_refused else token

    def _heed(self, refusal: Refusal | None) -> None:
        now = self._clock.now()
        if refusal is not None and refusal.until > now:
            raise refusal.error(now)

    def _refuse_young(self, refused: Token) -> None:
        wait = refused.fetched_at + _patience(refused.renewals) - self._clock.now()
        if wait > timedelta(0):
            raise NeedsReconnect(
                "the CRM does not accept a token that it just gave: the grant lacks a right; "
                "connect it again with every scope that is needed",
                retry_after=wait,
            )

    async def _shared(self, refused: Token | None) -> Token:
        renewals = refused.renewals + 1 if refused is not None else 0
        deadline = self._clock.now() + _LEASE
        while self._clock.now() <= deadline:
            document = await self._document()
            if document is None:
                return await self._fetch(renewals)
            if (found := self._usable(self._opened(document), refused)) is not None:
                return found
            if document.grant == self._grant:
                self._refusal = document.refusal
                self._heed(self._refusal)
            now = self._clock.now()
            if document.leased_until is None or document.leased_until <= now:
                leased = document.model_copy(update={"leased_until": now + _LEASE})
                try:
                    written = await self._glance.at(self._tokens.replace(leased))
                except (Conflict, NotFound):
                    continue  # another replica was faster
                return await self._fetch_and_store(written or leased, renewals)
            await self._clock.sleep(_POLL)
        raise Unavailable("another replica is refreshing the CRM's token and does not get it")

    async def _fetch_and_store(self, leased: TokenDocument, renewals: int) -> Token:
        # What is known of another grant is not true of this one.
        document = leased if leased.grant == self._grant else self._blank(leased.version)
        free = document.model_copy(update={"leased_until": None})
        try:
            token = await self._fetch(renewals)
        except BaseException:
            await self._put(free.model_copy(update={"refusal": self._refusal}))
            raise
        # Stored before it is used: the next replica must not fetch another.
        await self._put(
            free.model_copy(
                update={
                    "access_token": self._secrets.seal(token.access_token),
                    "base_url": token.base_url,
                    "fetched_at": token.fetched_at,
                    "good_until": token.good_until,
                    "renewals": token.renewals,
                    "refusal": None,
                }
            )
        )
        return token

    async def _put(self, document: TokenDocument) -> None:
        """Nobody waits long for it, but it is not left out: a lease that stays holds up the others."""
        task = asyncio.create_task(self._written(document))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        await asyncio.wait({task}, timeout=WITHIN.total_seconds())

    async def _written(self, document: TokenDocument) -> None:
        try:
            await self._tokens.put(document)
        except MeshError as error:
            log.warning("token_not_stored", key=self._key, error=error.message)

    async def _document(self) -> TokenDocument | None:
        """None where the store is away."""
        try:
            return await self._glance.at(self._tokens.get(self._key))
        except NotFound:
            with suppress(Conflict):
                await self._glance.at(self._tokens.add(self._blank()))
            return self._blank()

    def _blank(self, version: int = 0) -> TokenDocument:
        return TokenDocument(key=self._key, tenant=self._tenant, version=version, grant=self._grant)

    def _opened(self, document: TokenDocument) -> Token | None:
        """None for no token, for one of another grant, and for one whose key was lost."""
        sealed, fetched_at, good_until = (
            document.access_token,
            document.fetched_at,
            document.good_until,
        )
        if document.grant != self._grant or not (sealed and fetched_at and good_until):
            return None
        try:
            access_token = self._secrets.open(sealed)
        except BadSetting as error:
            log.warning("token_not_opened", key=self._key, error=error.message)
            return None
        return Token(
            access_token=access_token,
            base_url=document.base_url,
            fetched_at=fetched_at,
            good_until=good_until,
            renewals=document.renewals,
        )

    async def _fetch(self, renewals: int) -> Token:
        secrets = {name: secret.get_secret_value() for name, secret in self._credentials.items()}
        form = {"grant_type": "refresh_token", **secrets}
        answer = await self._http.send(
            "POST",
            URL(self._url, encoded=True),
            within=_FETCH_WITHIN,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body="&".join(f"{k}={query_value(v)}" for k, v in form.items()).encode(),
        )
        late = answer.status == HTTPStatus.REQUEST_TIMEOUT
        if late or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"the CRM's token address answered {answer.status}")
        reply = _reply(answer)
        if not reply.access_token:
            raise self._refused(answer, (reply.error or "")[:_LONGEST_REASON])
        self._refusal = None
        now = self._clock.now()
        return Token(
            access_token=SecretStr(reply.access_token),
            base_url=getattr(reply, self._base_url_path, None) if self._base_url_path else None,
            fetched_at=now,
            good_until=now + timedelta(seconds=reply.expires_in or _DEFAULT_LIFE_SECONDS),
            renewals=renewals,
        )

    def _refused(self, answer: Answer, error: str) -> TransientError:
        """Remembered for all who ask. Zoho refuses with status 200, and 400 may mean "too many"."""
        times = self._refusal.times + 1 if self._refusal is not None else 1
        lost = error.startswith("invalid_") or error in _REFUSALS
        said = error or answer.status
        now = self._clock.now()
        self._refusal = Refusal(
            throttled=not lost,
            reason=f"the CRM refuses the grant ({said}); connect it again"
            if lost
            else f"the CRM gives no token for now ({said})",
            times=times,
            until=now + _patience(times - 1),
        )
        return self._refusal.error(now)


def _patience(before: int) -> timedelta:
    return min(_PATIENCE * (1 << min(before, 10)), _LONGEST_PATIENCE)


class _Reply(BaseModel, extra="allow"):
    access_token: str | None = None
    expires_in: int | None = None
    error: str | None = None


def _reply(answer: Answer) -> _Reply:
    try:
        return _Reply.model_validate(orjson.loads(answer.body))
    except (orjson.JSONDecodeError, ValidationError) as error:
        if answer.status >= HTTPStatus.BAD_REQUEST:
            return _Reply()
        why = faults_in(error) if isinstance(error, ValidationError) else "it is no JSON"
        raise Unavailable(f"the CRM's token answer: {why}") from None

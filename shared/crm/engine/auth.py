"""
Access tokens: fetched ahead of their end, shared by all replicas through the store, sealed there.

One refresh at a time per connection: CRMs count them (Zoho gives ten in ten minutes) and those
that rotate the refresh token would end each other's. Whoever wins the lease fetches, the others
wait for what it stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from yarl import URL

from shared.clock import Clock
from shared.crm.language.contexts import query_value
from shared.errors import Conflict, NeedsReconnect, NotFound, Unavailable
from shared.faults import faults_in
from shared.moments import Instant
from shared.net.client import HttpClient
from shared.secrets import Sealed, SecretBox
from shared.storage.port import Collection, CollectionSpec, Document

#: Fetched so long before the end, so that no request carries a token that ends on its way.
_AHEAD = timedelta(minutes=1)
_LEASE = timedelta(seconds=15)
_POLL = timedelta(milliseconds=100)
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_FETCH_WITHIN = timedelta(seconds=10)
#: Where an answer says nothing.
_DEFAULT_LIFE_SECONDS = 3600


class TokenDocument(Document):
    """``key`` is ``tenant/connection``. Kept sealed, like every secret."""

    grant: str = ""
    access_token: Sealed | None = None
    base_url: str | None = None
    good_until: Instant | None = None
    leased_until: Instant | None = None


TOKENS: CollectionSpec[TokenDocument] = CollectionSpec(name="crm.tokens", model=TokenDocument)


class Token(BaseModel):
    access_token: SecretStr
    base_url: str | None = None
    good_until: datetime


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
        self._http = http
        self._secrets = secrets
        self._clock = clock
        self._held: Token | None = None
        self._one = asyncio.Lock()

    async def token(self, *, refused: SecretStr | None = None) -> Token:
        """
        A token that is good for a while. *refused* is one that the CRM did not accept.

        Raises: NeedsReconnect, Unavailable.
        """
        if (held := self._usable(self._held, refused)) is not None:
            return held
        async with self._one:
            if (held := self._usable(self._held, refused)) is not None:
                return held
            self._held = await self._shared(refused)
            return self._held

    def _usable(self, token: Token | None, refused: SecretStr | None) -> Token | None:
        if token is None or token.good_until - _AHEAD <= self._clock.now():
            return None
        return None if refused is not None and token.access_token == refused else token

    async def _shared(self, refused: SecretStr | None) -> Token:
        deadline = self._clock.now() + _LEASE
        while self._clock.now() <= deadline:
            document = await self._document()
            if (found := self._usable(self._opened(document), refused)) is not None:
                return found
            now = self._clock.now()
            if document.leased_until is None or document.leased_until <= now:
                leased = document.model_copy(update={"leased_until": now + _LEASE})
                try:
                    leased = await self._tokens.replace(leased)
                except (Conflict, NotFound):
                    continue  # another replica was faster
                return await self._fetch_and_store(leased)
            await self._clock.sleep(_POLL)
        raise Unavailable("another replica is refreshing the CRM's token and does not get it")

    async def _fetch_and_store(self, leased: TokenDocument) -> Token:
        try:
            token = await self._fetch()
        except BaseException:
            await self._tokens.put(leased.model_copy(update={"leased_until": None}))
            raise
        # Stored before it is used: the next replica must not fetch another.
        await self._tokens.put(
            leased.model_copy(
                update={
                    "grant": self._grant,
                    "access_token": self._secrets.seal(token.access_token),
                    "base_url": token.base_url,
                    "good_until": token.good_until,
                    "leased_until": None,
                }
            )
        )
        return token

    async def _document(self) -> TokenDocument:
        try:
            return await self._tokens.get(self._key)
        except NotFound:
            with suppress(Conflict):
                await self._tokens.add(TokenDocument(key=self._key, tenant=self._tenant))
            return await self._tokens.get(self._key)

    def _opened(self, document: TokenDocument) -> Token | None:
        if document.access_token is None or document.good_until is None:
            return None
        if document.grant != self._grant:
            return None
        return Token(
            access_token=self._secrets.open(document.access_token),
            base_url=document.base_url,
            good_until=document.good_until,
        )

    async def _fetch(self) -> Token:
        secrets = {name: secret.get_secret_value() for name, secret in self._credentials.items()}
        form = {"grant_type": "refresh_token", **secrets}
        answer = await self._http.send(
            "POST",
            URL(self._url, encoded=True),
            within=_FETCH_WITHIN,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body="&".join(f"{k}={query_value(v)}" for k, v in form.items()).encode(),
        )
        if answer.status in _AGAIN or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"the CRM's token address answered {answer.status}")
        reply = _reply(answer.body)
        if not reply.access_token:
            # Zoho says so with status 200.
            raise NeedsReconnect(
                f"the CRM refuses the grant ({reply.error or answer.status}); connect it again"
            )
        life = timedelta(seconds=reply.expires_in or _DEFAULT_LIFE_SECONDS)
        return Token(
            access_token=SecretStr(reply.access_token),
            base_url=getattr(reply, self._base_url_path, None) if self._base_url_path else None,
            good_until=self._clock.now() + life,
        )


class _Reply(BaseModel, extra="allow"):
    access_token: str | None = None
    expires_in: int | None = None
    error: str | None = None


def _reply(body: bytes) -> _Reply:
    try:
        return _Reply.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise Unavailable("the CRM's token address did not answer JSON") from None
    except ValidationError as error:
        raise Unavailable(f"the CRM's token answer: {faults_in(error)}") from None

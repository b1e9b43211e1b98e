"""One request to a CRM and what its answer means. Tokens, pauses and outcomes are settled here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson

from shared.clock import Clock
from shared.crm.engine.auth import Token, TokenKeeper
from shared.crm.engine.manifest import Manifest, OAuth2Refresh, Request
from shared.crm.engine.requests import Rendered, render
from shared.crm.language.contexts import header_value
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path
from shared.errors import MeshError, NeedsReconnect, Rejected, Throttled, Unavailable
from shared.net.client import Answer, HttpClient
from shared.observe.metrics import Metrics

#: Where a CRM says "slow down" and not for how long.
_PATIENCE = timedelta(seconds=5)
#: A CRM that asks for more than an hour means tomorrow; retries come back to it before.
_LONGEST_PATIENCE = timedelta(hours=1)
_MAX_RETRY_AFTER_DIGITS = 6


class CrmRequests:
    """The requests of one connection."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        parameters: Mapping[str, str],
        tokens: TokenKeeper | None,
        http: HttpClient,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._manifest = manifest
        self._parameters = dict(parameters)
        self._tokens = tokens
        self._http = http
        self._clock = clock
        self._metrics = metrics
        self._pause_until: datetime | None = None

    async def ask(
        self,
        request: Request,
        variables: Mapping[str, Any],
        *,
        within: timedelta,
        merge: tuple[str, Mapping[str, Any]] | None = None,
    ) -> Answer:
        """
        The answer, where it is a success or an empty search. A refused token is replaced once.

        Raises: Rejected, Throttled, NeedsReconnect, Unavailable.
        """
        try:
            answer = await self._ask(request, variables, within, merge)
        except MeshError as error:
            self._metrics.count("callmesh_crm_requests_total", self._manifest.name, error.code)
            raise
        self._metrics.count("callmesh_crm_requests_total", self._manifest.name, "ok")
        return answer

    def is_empty(self, answer: Answer) -> bool:
        """Whether it says that nothing was found."""
        return answer.status in self._manifest.outcome.none_found or not answer.body

    async def _ask(
        self,
        request: Request,
        variables: Mapping[str, Any],
        within: timedelta,
        merge: tuple[str, Mapping[str, Any]] | None,
    ) -> Answer:
        now = self._clock.now()
        if self._pause_until is not None and now < self._pause_until:
            raise Throttled("the CRM asked for a pause", retry_after=self._pause_until - now)
        token = await self._tokens.token() if self._tokens else None
        answer = await self._send(request, variables, token, within, merge)
        if answer.status in self._manifest.outcome.credentials and self._tokens and token:
            token = await self._tokens.token(refused=token)
            answer = await self._send(request, variables, token, within, merge)
        self._refuse_failures(answer)
        return answer

    async def _send(
        self,
        request: Request,
        variables: Mapping[str, Any],
        token: Token | None,
        within: timedelta,
        merge: tuple[str, Mapping[str, Any]] | None,
    ) -> Answer:
        trusted = dict(self._parameters)
        if token is not None and token.base_url:
            trusted["api_base"] = token.base_url
        rendered = render(
            request, variables, trusted=trusted, maps=self._manifest.maps, merge=merge
        )
        with self._metrics.timed("callmesh_crm_request_seconds", self._manifest.name):
            return await self._http.send(
                rendered.method,
                rendered.url,
                within=within,
                headers=self._headers(rendered, token),
                body=rendered.body,
            )

    def _headers(self, rendered: Rendered, token: Token | None) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if rendered.body is not None:
            headers["Content-Type"] = "application/json"
        auth = self._manifest.auth
        if token is not None and isinstance(auth, OAuth2Refresh):
            secret = token.access_token.get_secret_value()
            headers[auth.header] = header_value(f"{auth.prefix} {secret}")
        return headers

    def _refuse_failures(self, answer: Answer) -> None:
        outcome = self._manifest.outcome
        status = answer.status
        if status in outcome.none_found or HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        wait = retry_after(answer, self._clock.now())
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = _PATIENCE if wait is None else wait
            # Every other request of this connection waits too: a ban would hit them all.
            self._pause_until = self._clock.now() + wait
            raise Throttled("the CRM asks to slow down", retry_after=wait)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"the CRM answered {status}", retry_after=wait)
        if status in outcome.credentials:
            raise NeedsReconnect(
                f"the CRM does not accept its own token ({status}): the grant is lost or lacks a "
                "right; connect it again with every scope that is needed"
            )
        try:
            reply = json_of(answer)
        except Unavailable:
            reply = None
        words = [
            plain_text(at_path(reply, path)) for path in (outcome.error_code, outcome.error_text)
        ]
        raise Rejected(" ".join([f"the CRM answered {status}", *filter(None, words)]))


def json_of(answer: Answer) -> Any:
    """Raises: Unavailable: a proxy's page instead of the CRM's answer is no answer."""
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise Unavailable(f"the CRM answered {answer.status} without JSON") from None


def retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110), within reason; None where the CRM does not say."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS:
        wait = timedelta(seconds=int(text))
    else:
        try:
            wait = parsedate_to_datetime(text) - now
        except (ValueError, TypeError):
            return None
    return min(max(wait, timedelta(0)), _LONGEST_PATIENCE)

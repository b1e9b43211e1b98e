"""
The client of a Custom CRM: a service of the tenant's own that answers with a field's value.

Asked is ``{URL}?field_name=FIELD&dtmf=DIGITS``, as PBXware asks it, or the same as a JSON body.
What it may answer is read by :mod:`services.routing.custom_answer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import structlog
from pydantic import JsonValue
from yarl import URL

from services.routing.custom_answer import value_in
from shared.clock import Clock
from shared.crm.meaning import retry_after
from shared.errors import BadSetting, Forbidden, Rejected, Throttled, Unavailable
from shared.net.client import Answer, HttpClient
from shared.secrets import SecretBox
from shared.site.rules.rule import CustomCrm, HttpHeader, Sent

log = structlog.get_logger(__name__)

#: One value is due. That much leaves room for a record around it, and no more than that is read
#: from a stranger while a caller waits.
MAX_ANSWER_BYTES = 64 * 1024
#: Of what goes along; no number, menu or id of a call is longer.
_LONGEST_SENT = 256
#: RFC 3986, and what is quoted already.
_OF_ADDRESSES = "%-._~:/?@!$&'()*+,;=[]"
_NOT_THERE = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND})


class CustomCrmClient:
    """
    Each question is a request: answers are not kept, as nobody tells when they change. Of those to
    one host no more are under way than the HttpClient has connections for it; the others wait
    within their own budgets.
    """

    def __init__(self, http: HttpClient, secrets: SecretBox, clock: Clock) -> None:
        self._http = http
        self._secrets = secrets
        self._clock = clock

    async def value(
        self,
        custom: CustomCrm,
        *,
        field: str,
        dtmf: str,
        sent: Mapping[Sent, str],
        within: timedelta,
    ) -> JsonValue:
        """
        A number, a text, a yes or no, or a list of these; None: no value. What is empty (*dtmf*,
        one of *sent*) does not go along.

        Raises: OutOfTime, Unavailable (no connection, a server error), Throttled, Forbidden (401,
        403), Rejected (any other refusal, a redirect, an address that may not be asked),
        ContractError (an answer that holds no value), BadSetting (a header that cannot be sent).
        """
        told = {"field_name": field, "dtmf": dtmf}
        told |= {name: sent.get(what, "")[:_LONGEST_SENT] for name, what in custom.send.items()}
        told = {name: text for name, text in told.items() if text}
        headers = {"Accept": "application/json, text/plain;q=0.9, */*;q=0.1"}
        if custom.header is not None:
            headers |= self._opened(custom.header)
        body = None
        if custom.post:
            headers["Content-Type"] = "application/json"
            body = json.dumps(told).encode()
        url = _address(custom.url, {} if custom.post else told)
        answer = await self._http.send(
            "POST" if custom.post else "GET",
            url,
            within=within,
            headers=headers,
            body=body,
            most=MAX_ANSWER_BYTES,
        )
        found = self._read(answer, field, host=url.host or "")
        log.debug("custom_crm_asked", host=url.host, field=field, found=found is not None)
        return found

    def _opened(self, header: HttpHeader) -> dict[str, str]:
        """Raises: BadSetting, which does not repeat the value."""
        value = self._secrets.open(header.value).get_secret_value().strip()
        if not value.isascii() or not value.isprintable():
            raise BadSetting(
                f"the header {header.name} of the custom CRM has line breaks or other characters "
                "that no header carries: set its value again"
            )
        return {header.name: value}

    def _read(self, answer: Answer, field: str, *, host: str) -> JsonValue:
        status = answer.status
        if status in _NOT_THERE:
            return None
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return value_in(answer, field, host=host)
        wait = retry_after(answer, self._clock.now())
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Throttled(f"{host} asks to slow down (429)", retry_after=wait)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{host} failed ({status})", retry_after=wait)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Forbidden(f"{host} refuses us ({status}): set the header that it wants")
        if status < HTTPStatus.BAD_REQUEST:
            raise Rejected(f"{host} points elsewhere ({status}): set the address it points to")
        raise Rejected(f"{host} refuses the question ({status})")


def _address(text: str, told: Mapping[str, str]) -> URL:
    """
    *text* with *told* behind it, and else to the letter: it may be signed. What no address may
    have goes out quoted. Raises: Rejected.
    """
    try:
        parts, origin = urlsplit(text), URL(text).origin()
    except ValueError:
        raise Rejected("the address of the custom CRM is malformed: set it again") from None
    # Half a character, which JSON can say and no address: it becomes a question mark.
    pairs = "&".join(
        f"{name}={quote(value, safe='', errors='replace')}" for name, value in told.items()
    )
    before = quote(parts.query, safe=_OF_ADDRESSES).rstrip("&")
    query = "&".join(part for part in (before, pairs) if part)
    path = quote(parts.path, safe=_OF_ADDRESSES) or "/"
    return URL(f"{origin}{path}{'?' if query else ''}{query}", encoded=True)

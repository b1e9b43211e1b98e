"""The account's JSON-RPC 2.0: Call API and Data API. Its errors → ours, with what to change."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from pydantic import SecretStr

from shared.clock import Clock
from shared.errors import (
    ContractError,
    Forbidden,
    MeshError,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import Answer, HttpClient
from shared.pbx.jsonhttp import JsonHttp, words_of
from shared.pbx.port import Finding

_HEADERS = {"Content-Type": "application/json; charset=UTF-8"}
_MNEMONIC = re.compile(r"[a-z0-9_]{1,64}")

# Groups of error codes: Call API v4.0, "Groups of error codes".
_AUTH, _NOT_ALLOWED, _LIMITS, _INTERNAL = -32001, -32003, -32029, -32603

#: The vendor's mnemonic → what the administrator changes.
_REMEDIES: Mapping[str, str] = {
    "access_token_invalid": "make a key in Account, Managing users, and put it into the site file",
    "access_token_expired": "the key's time is over: make another in Account, Managing users",
    "access_token_blocked": "the key is blocked: make another in Account, Managing users",
    "auth_error": "make a key in Account, Managing users, and put it into the site file",
    "ip_not_whitelisted": "add the address that callmesh comes from in Account, Rules and "
    "security settings, API (and in Account, Call API, IP addresses)",
    "forbidden": "give the key's user the right to it in Account, Managing users",
    "component_disabled": "the account lacks the component: connect it in Account, Tariffs and "
    "options",
    "account_inactive": "the account is disabled: ask the vendor's support",
    "employee_not_found": "set `pbx_user` of the agent to an employee's id of this account",
    "no_active_phone_number": "give the employee an active phone number",
    "virtual_phone_number_not_found": "set `virtual_number`, and the numbers of `dialing`, to "
    "numbers of this account that are no 800 numbers",
    "own_virtual_phone_number_not_allowed": "a number of the account's own cannot be called",
    "contact_in_blacklist": "the account's blacklist has the number",
    "method_not_found": "the address in the site file is of another API, or of another version",
}


class JsonRpc:
    """One of the two APIs. The token goes into the parameters, and into no word of ours."""

    def __init__(self, http: HttpClient, url: str, token: SecretStr, clock: Clock) -> None:
        self._http = JsonHttp("UIS", url, http=http, clock=clock, fingerprint=None, no_access="")
        self._token = token
        self._ids = itertools.count(1)

    @property
    def host(self) -> str:
        return self._http.host

    def clock_finding(self) -> Finding:
        return self._http.clock_finding()

    async def call(
        self, method: str, parameters: Mapping[str, Any], *, within: timedelta
    ) -> dict[str, Any]:
        """
        The ``result``. Sent once.

        Raises: Rejected, Forbidden (key, rights, address), Throttled; Unavailable, with
        ``sent=False`` in its details where nothing was sent. The vendor's word for a refusal is
        ``mnemonic`` in the details.
        """
        request_id = f"callmesh-{next(self._ids)}"
        token = {"access_token": self._token.get_secret_value()}
        body = {
            "jsonrpc": "2.0",
            "id": request_id,
            "method": method,
            "params": {**token, **parameters},
        }
        try:
            answer = await self._http.send(
                "POST", (), within=within, headers=_HEADERS, body=json.dumps(body).encode()
            )
        except Unavailable as error:
            raise Unavailable(f"{method}: {error.message}", **error.details) from error
        document = self._document(answer)
        refusal = document.get("error")
        if isinstance(refusal, dict):
            raise self._refusal(method, refusal, document)
        result = document.get("result")
        if document.get("id") != request_id or not isinstance(result, dict):
            raise self._by_status(method, answer.status)
        return result

    def _document(self, answer: Answer) -> dict[str, Any]:
        """Nothing for what is no object."""
        try:
            found = self._http.json(answer)
        except ContractError:
            return {}
        return found if isinstance(found, dict) else {}

    def _by_status(self, method: str, status: int) -> MeshError:
        words = f"{method}: {self.host} answered {status} and no result"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return Throttled(words)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return Forbidden(words, mnemonic="")
        if status == HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(words, sent=True)
        return Rejected(f"{words}; is the address in the site file right?", mnemonic="")

    def _refusal(self, method: str, error: dict[str, Any], document: dict[str, Any]) -> MeshError:
        details = error.get("data")
        details = details if isinstance(details, dict) else {}
        mnemonic = str(details.get("mnemonic") or "")
        mnemonic = mnemonic if _MNEMONIC.fullmatch(mnemonic) else ""
        code = error.get("code")
        code = code if isinstance(code, int) else None
        words = f"{method}: {mnemonic or code}: {self._plain(error.get('message'))}"
        if field := self._plain(details.get("field")):
            words += f" ({field})"
        if remedy := _REMEDIES.get(mnemonic):
            words += f"; {remedy}"
        match code:
            case _ if code == _LIMITS:
                return Throttled(words, retry_after=_pause(error, document))
            case _ if code == _INTERNAL:
                return Unavailable(words, sent=True)
            case _ if code in {_AUTH, _NOT_ALLOWED}:
                return Forbidden(words, mnemonic=mnemonic)
        return Rejected(words, mnemonic=mnemonic)

    def _plain(self, words: Any) -> str:
        """A line of theirs that is fit for a log."""
        if not isinstance(words, str):
            return ""
        token = self._token.get_secret_value()
        text = words.replace(token, "…") if token else words
        return words_of(text)


def _pause(error: dict[str, Any], document: dict[str, Any]) -> timedelta | None:
    """Until the used-up limit of points is set back: of the minute, or of the day."""
    limits = _limits(document) or _limits(error) or {}
    for span in ("day", "minute"):
        left, reset = limits.get(f"{span}_remaining"), limits.get(f"{span}_reset")
        usable = isinstance(reset, int | float) and 0 <= reset <= timedelta(days=1).total_seconds()
        if usable and isinstance(left, int | float) and left <= 0:
            return timedelta(seconds=reset or 0)
    return None


def _limits(place: dict[str, Any]) -> dict[str, Any] | None:
    """``metadata.limits``, which stands beside or in what it is about."""
    inner = [place.get(name) for name in ("result", "data")]
    for holder in (place, *inner):
        metadata = holder.get("metadata") if isinstance(holder, dict) else None
        limits = metadata.get("limits") if isinstance(metadata, dict) else None
        if isinstance(limits, dict):
            return limits
    return None

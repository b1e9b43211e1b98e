"""Requests that authenticate: sent, and their answers as values, or as the CRM's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from shared.clock import Clock
from shared.crm.language.functions import plain_text
from shared.crm.language.jsontext import read_json
from shared.crm.language.paths import at_path
from shared.crm.masking import Mask
from shared.crm.meaning import retry_after
from shared.crm.rendering import Rendered
from shared.errors import ContractError, NeedsReconnect, Throttled, Unavailable
from shared.net.client import Answer, HttpClient

#: Of one request; whoever waits for a session has a time of its own.
ASKED_WITHIN = timedelta(seconds=10)
_LONGEST_WORDS = 200
#: Tokens are some kilobytes at most, and each is put into every request.
LONGEST_VALUE = 64 * 1024
#: Where CRMs say why, in this order: a code, then words.
_CODES = ("error", "error.code", "code", "name")
_WORDS = (
    "error_description",
    "error.message",
    "message",
    "errorMsg",
    "hint",
    "detail",
    "description",
    "title",
)

ReadAnswer = Callable[[Answer], Any]


def json_answer(answer: Answer) -> Any:
    """Raises: ContractError."""
    return read_json(answer.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """*value* is the body, None where a refusal's could not be read. *secure*: over https."""

    status: int
    value: Any = field(repr=False)
    secure: bool
    wait: timedelta | None

    @property
    def is_success(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def code(self) -> str:
        """The CRM's own name of what is wrong, or nothing."""
        return _first(self.value, _CODES)

    def words(self, hidden: Iterable[str]) -> str:
        """
        The CRM's code and words, else its status; never the body, and nothing of *hidden*, which
        a CRM may repeat.
        """
        said = dict.fromkeys(filter(None, (self.code, _first(self.value, _WORDS))))
        text = Mask(hidden).text(": ".join(said) or str(self.status))
        return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_WORDS]

    def take(self, paths: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """
        The values at *paths* as texts, and the names of those that there are not.

        Raises: NeedsReconnect for an http address where the answer came over https.
        """
        found: dict[str, str] = {}
        missing: list[str] = []
        for name, path in paths.items():
            value = at_path(self.value, path)
            text = "" if isinstance(value, Mapping | list | tuple) else str(plain_text(value))
            if not text or len(text) > LONGEST_VALUE:
                missing.append(name)
                continue
            if self.secure and text.strip().lower().startswith("http:"):
                raise NeedsReconnect(
                    f"the CRM gave an http:// address for {name} in an answer over https; "
                    "it is not used, for everything sent there could be read on the way"
                )
            found[name] = text
        return found, missing


class AuthRequests:
    """How the requests of ``auth`` go out; without the headers of the others."""

    def __init__(self, http: HttpClient, clock: Clock, read: ReadAnswer = json_answer) -> None:
        self._http = http
        self._clock = clock
        self._read = read

    async def send(self, rendered: Rendered) -> Reply:
        """Raises: Unavailable (5xx, no answer, no reply in it), Throttled, Rejected."""
        answer = await self._http.send(
            rendered.method,
            rendered.url,
            within=ASKED_WITHIN,
            headers={"Accept": "application/json", **rendered.headers},
            body=rendered.body,
        )
        wait = retry_after(answer, self._clock.now())
        late = answer.status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
        if late or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"the CRM's sign-in answered {answer.status}", retry_after=wait)
        try:
            value = self._read(answer)
        except ContractError:
            if answer.status < HTTPStatus.MULTIPLE_CHOICES and answer.body:
                raise Unavailable("the CRM's sign-in answered with something unreadable") from None
            value = None
        reply = Reply(answer.status, value, rendered.url.scheme == "https", wait)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Throttled("the CRM gives no token for now (429)", retry_after=wait)
        return reply


def _first(value: Any, paths: Iterable[str]) -> str:
    if not isinstance(value, Mapping):
        return ""
    for path in paths:
        found = at_path(value, path)
        if isinstance(found, bool):
            continue
        if isinstance(found, str | int) and (text := str(plain_text(found)).strip()):
            return text
    return ""

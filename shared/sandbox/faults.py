"""What can be wrong with the sandbox CRM, and the answers that come of it."""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from shared.clock import Clock
from shared.net.client import MAX_ANSWER_BYTES

_PAGE = "<!doctype html><title>Bad gateway</title><p>The server is being maintained.</p>"
_CHUNK = 64 * 1024


class Faults(BaseModel):
    """
    What is wrong with this CRM at the moment; set by ``PUT /sandbox/faults``. Counts are of
    requests to the API, and count down; shares are of all of them, 0 to 1, and stay.
    """

    model_config = ConfigDict(extra="forbid")

    latency_ms: int = Field(default=0, ge=0, le=60_000)
    slow_body_ms: int = Field(
        default=0,
        ge=0,
        le=60_000,
        description="Status and headers come at once, the body so much later.",
    )
    fail_next: int = Field(default=0, ge=0, description="So many requests get ``fail_status``.")
    fail_status: int = Field(default=500, ge=400, le=599)
    retry_after_s: int | None = Field(
        default=None, description="With ``fail_next``: header Retry-After. None: it does not say."
    )
    retry_after_body_s: int | None = Field(
        default=None, description="With ``fail_next``: ``retry_after`` in the body."
    )
    error_in_200: int = Field(
        default=0,
        ge=0,
        description='So many requests do nothing and get status 200 with {"status": "error", '
        '"code": ``error_code``}.',
    )
    error_code: str = "INTERNAL_ERROR"
    broken_json: int = Field(
        default=0, ge=0, description="So many answers are 200 with JSON that is cut in the middle."
    )
    html_page: int = Field(
        default=0, ge=0, description="So many answers are 200 with a proxy's HTML page."
    )
    huge_answer: int = Field(
        default=0, ge=0, description="So many answers are 200 with more than our client reads."
    )
    lose_answers: int = Field(
        default=0, ge=0, description="So many writes are done and the connection cut."
    )
    fail_share: float = Field(
        default=0, ge=0, le=1, description="So many requests do nothing and get ``fail_status``."
    )
    throttle_share: float = Field(
        default=0,
        ge=0,
        le=1,
        description="So many of the others do nothing and get 429, with Retry-After "
        "``retry_after_s``, or 1.",
    )
    lose_share: float = Field(
        default=0, ge=0, le=1, description="So many writes are done and the connection cut."
    )
    seed: int = Field(
        default=1,
        description="Of the shares: after it was set, the same requests in the same order fail.",
    )
    requests_per_minute: int = Field(default=0, ge=0, description="0: no limit.")
    search_lag_ms: int = Field(default=0, ge=0, description="Writes are found so much later.")
    grant_revoked: bool = Field(default=False, description="Every refresh token is refused.")
    rotate_refresh_tokens: bool = Field(
        default=False,
        description="Each refresh gives a new refresh token. The old one is dead at once, and who "
        "uses it again ends all that came of the same consent.",
    )
    token_life_s: int = Field(default=3600, ge=1, description="Of access tokens.")
    fail_tokens: int = Field(
        default=0, ge=0, description="So many requests for tokens get ``fail_status``."
    )
    lose_tokens: int = Field(
        default=0, ge=0, description="So many tokens are made and the connection cut."
    )
    no_scope: list[str] = Field(
        default_factory=list, description="Modules that the grant gives no right to."
    )

    _random: Random = PrivateAttr(default_factory=Random)

    def model_post_init(self, _: object, /) -> None:
        self._random.seed(self.seed)

    def happens(self, share: Literal["fail_share", "throttle_share", "lose_share"]) -> bool:
        """Whether it is on for this request."""
        wanted: float = getattr(self, share)
        return self._random.random() < wanted

    def takes(self, name: str) -> bool:
        """Whether it is on for this request, which is counted."""
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0


def failure(faults: Faults) -> web.Response:
    """What ``fail_next`` says."""
    wait, inside = faults.retry_after_s, faults.retry_after_body_s
    body = {"code": "INTERNAL_ERROR", "details": {}, "message": "Internal Server Error"}
    more = {"retry_after": inside} if inside is not None else {}
    headers = {"Retry-After": str(wait)} if wait is not None else None
    return web.json_response(
        {**body, "status": "error", **more}, status=faults.fail_status, headers=headers
    )


async def spoilt(request: web.Request, faults: Faults) -> web.StreamResponse | None:
    """An answer with status 200 that is none, where one is due."""
    if faults.takes("error_in_200"):
        words = {"code": faults.error_code, "message": "it was not done", "details": {}}
        return web.json_response({**words, "status": "error"})
    if faults.takes("broken_json"):
        text = json.dumps({"data": [{"id": "1", "Full_Name": "Cut"}]})
        return web.Response(text=text[: len(text) // 2], content_type="application/json")
    if faults.takes("html_page"):
        return web.Response(text=_PAGE, content_type="text/html")
    return await _huge(request) if faults.takes("huge_answer") else None


async def _huge(request: web.Request) -> web.StreamResponse:
    """The client hangs up before the end; that is no fault of ours."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        await response.write(b'{"data": ["')
        for _ in range(2 * MAX_ANSWER_BYTES // _CHUNK):
            await response.write(b"x" * _CHUNK)
        await response.write_eof(b'"]}')
    except ConnectionError:
        pass
    return response


async def slowly(
    request: web.Request, answer: web.StreamResponse, wait: timedelta, clock: Clock
) -> web.StreamResponse:
    """*answer* with its body *wait* after its headers."""
    if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
        return answer
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    await response.prepare(request)
    await clock.sleep(wait)
    await response.write_eof(answer.body)
    return response

"""What is no HTTP is answered as other faults are: aiohttp would say it in its own words."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from shared.http import problems

#: An address; some hundred ids may stand in it, percent-encoded.
MAX_LINE_BYTES = 64 * 1024


class _Protocol(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # It logs, and gives up on what was begun; its text shows pieces of the request.
        super().handle_error(request, status, exc, message)
        return problems.of_no_request(HTTPStatus(status))


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # There is no other way to say which protocol it speaks.
        server.__class__ = _Server
        return server

"""Bodies that take their time: files, and what is made while it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from http import HTTPStatus

import structlog
from aiohttp import web

from shared.clock import Clock
from shared.http import problems
from shared.http.bytestream import ByteStream
from shared.http.files import FileAnswer
from shared.http.patience import cut, patiently
from shared.http.underway import UnderWay

log = structlog.get_logger(__name__)

FILE_PATIENCE = timedelta(minutes=2)
_PIECE_BYTES = 256 * 1024
#: Their own: a mount whose server is gone holds them for ever, and nobody else's.
_FILE_THREADS = 8


class Sending:
    """*stopping*: set when the server stops; a body that is still being made is broken off then."""

    def __init__(self, clock: Clock, under_way: UnderWay, stopping: asyncio.Event) -> None:
        self._clock = clock
        self._under_way = under_way
        self._stopping = stopping
        self._threads = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="files")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def chunks(self, answer: ByteStream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=HTTPStatus.OK, headers=answer.headers)
        stopping = asyncio.create_task(self._stopping.wait())
        patient = partial(patiently, self._clock, within=FILE_PATIENCE)
        try:
            await response.prepare(request)
            async for chunk in answer.chunks:
                await patient(response.write(chunk), stopping)
            await patient(response.write_eof(), stopping)
        except (ConnectionError, TimeoutError):
            cut(request)  # the client went away, or does not read; or this server stops
        except Exception:
            # The status is out: that it breaks off is all that can still be said.
            log.exception("stream_failed", path=request.path)
            cut(request)
        finally:
            stopping.cancel()
            if isinstance(answer.chunks, AsyncGenerator):
                await answer.chunks.aclose()
        return response

    async def file(self, answer: FileAnswer, request: web.Request) -> web.StreamResponse:
        """The whole or the part; the file is closed then. Raises: Throttled."""
        #: By a thread, perhaps: closing it would wait for that.
        is_read = False
        try:
            if answer.part.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return problems.problem(
                    answer.part.status,
                    "range_not_satisfiable",
                    f"The file has {answer.part.size} bytes; the range begins behind them.",
                    headers=answer.part.headers,
                )
            with self._under_way.one_more_file(answer.tenant):
                return await self._sent(answer, request)
        except asyncio.CancelledError:
            is_read = True
            raise
        finally:
            if not is_read:
                answer.file.close()

    async def _sent(self, answer: FileAnswer, request: web.Request) -> web.StreamResponse:
        part = answer.part
        response = web.StreamResponse(
            status=part.status, headers={**answer.headers, **part.headers, "Accept-Ranges": "bytes"}
        )
        response.content_length = part.length
        left = part.length if request.method != "HEAD" else 0
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        try:
            await in_thread(answer.file.seek, part.start)
            await response.prepare(request)
            while left:
                piece = await in_thread(answer.file.read, min(left, _PIECE_BYTES))
                if not piece:
                    # It has become shorter: that it ends here must not look like its end.
                    cut(request)
                    break
                left -= len(piece)
                await patiently(self._clock, response.write(piece), within=FILE_PATIENCE)
            else:
                await patiently(self._clock, response.write_eof())
        except (ConnectionError, TimeoutError, OSError):
            cut(request)  # the client went away, or does not read
        return response

"""/live, /ready and /metrics, on a listener of their own that is not for the public."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from shared.observe.metrics import Metrics


class OpsServer:
    """
    ``/live``: 200 while the event loop turns. ``/ready``: 200 when every check holds, else 503;
    the body names them. ``/metrics``: Prometheus text.
    """

    def __init__(
        self, metrics: Metrics, *, ready: Callable[[], Awaitable[dict[str, bool]]]
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        app = web.Application()
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._readiness)
        app.router.add_get("/metrics", self._exposition)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def start(self, host: str, port: int) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _readiness(self, _: web.Request) -> web.Response:
        checks = await self._ready()
        return web.json_response(
            {"ready": all(checks.values()), "checks": checks},
            status=200 if all(checks.values()) else 503,
        )

    async def _exposition(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

"""A Yeastar P-Series, as one connection."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.clock import Clock
from shared.errors import BadSetting
from shared.net.client import HttpClient
from shared.observe.metrics import Metrics
from shared.pbx.port import PbxAdapter
from shared.pbx.yeastar.api import YeastarApi
from shared.pbx.yeastar.check import YeastarCheck
from shared.pbx.yeastar.hooks import YeastarHooks
from shared.pbx.yeastar.reader import Events, YeastarReader
from shared.pbx.yeastar.recordings import YeastarRecordings
from shared.pbx.yeastar.route import YeastarRoute
from shared.pbx.yeastar.settings import YeastarSettings
from shared.pbx.yeastar.source import YeastarSource
from shared.pbx.yeastar.switchboard import YeastarSwitchboard

__all__ = ["YeastarSettings", "yeastar_adapter"]


def yeastar_adapter(
    settings: YeastarSettings,
    *,
    tenant: str,
    pbx: str,
    http: HttpClient,
    clock: Clock,
    metrics: Metrics,
) -> PbxAdapter:
    """
    Its source and its switchboard share a login, which is made when one of them first needs it.

    Raises: BadSetting for a zone that is none.
    """
    try:
        zone = ZoneInfo(settings.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSetting(
            f"PBX {pbx}: zone {settings.zone!r} is no time zone; write one like Europe/Berlin"
        ) from None
    events = Events(tenant, pbx, zone, settings.queues, settings.statuses)
    api = YeastarApi(settings, http, clock)
    by_websocket = settings.events == "websocket"

    def source() -> YeastarSource:
        return YeastarSource(api, YeastarReader(events), clock=clock, metrics=metrics)

    def switchboard() -> YeastarSwitchboard:
        return YeastarSwitchboard(
            api, auto_answer=settings.auto_answer, clock=clock, statuses=settings.statuses
        )

    return PbxAdapter(
        check=YeastarCheck(settings, pbx=pbx, zone=zone, http=http, clock=clock).run,
        source=source if by_websocket else None,
        reader=(lambda: YeastarReader(events)) if by_websocket else None,
        hooks=None if by_websocket else YeastarHooks(events, settings.webhook_secret),
        switchboard=switchboard,
        route=YeastarRoute(),
        recordings=YeastarRecordings(api, http),
    )

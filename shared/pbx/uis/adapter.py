"""All that can be done with a UIS, CoMagic or CallGear account."""

from __future__ import annotations

from shared.clock import Clock
from shared.net.client import HttpClient
from shared.pbx.fetching import Asked, WebRecordings, at_origin
from shared.pbx.port import PbxAdapter, Phones
from shared.pbx.uis.checks import UisCheck
from shared.pbx.uis.jsonrpc import JsonRpc
from shared.pbx.uis.notifications import UisHooks
from shared.pbx.uis.reporter import UisReporter
from shared.pbx.uis.route import UisRoute
from shared.pbx.uis.settings import UisSettings
from shared.pbx.uis.staff import StaffWords
from shared.pbx.uis.switchboard import UisSwitchboard

__all__ = ["UisSettings", "uis_adapter"]


def uis_adapter(
    settings: UisSettings,
    *,
    tenant: str,
    pbx: str,
    http: HttpClient,
    clock: Clock,
    phones: Phones | None = None,
) -> PbxAdapter:
    """
    It tells its events by hooks; there is nothing to keep open. *phones* is for the check alone.

    Raises: BadSetting for a zone that is none.
    """
    zone = settings.time_zone()
    calls = JsonRpc(http, settings.call_api, settings.access_token, clock)
    recordings = settings.recordings_url()

    def asked(recording: str) -> Asked | None:
        url = at_origin(recording, recordings)
        # Whoever has the address may hear it: the account's token is for its APIs alone.
        return Asked(url) if url is not None else None

    data = JsonRpc(http, settings.data_api, settings.data_token or settings.access_token, clock)
    return PbxAdapter(
        check=UisCheck(settings, calls, data, clock, phones),
        hooks=UisHooks(
            tenant,
            pbx,
            zone,
            StaffWords(statuses=settings.statuses, by_flag=settings.calls_available),
        ),
        reporter=UisReporter(tenant, pbx, data, zone, recordings),
        switchboard=lambda: UisSwitchboard(settings, calls=calls, data=data),
        route=UisRoute(settings),
        recordings=WebRecordings(http, asked),
    )

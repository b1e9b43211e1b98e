"""PBX connections of sites → adapters: the one place that knows every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import structlog
from pydantic import SecretStr
from yarl import URL

from shared.clock import Clock
from shared.errors import BadSetting, Forbidden
from shared.http.auth import KEY_PARAMETER
from shared.http.routes import RawRequest
from shared.net.client import HttpClient
from shared.net.guard import contains
from shared.net.requests import NoNotes, RequestNotes
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.adapter import AsteriskSettings, asterisk_adapter
from shared.pbx.freeswitch.adapter import FreeSwitchSettings, freeswitch_adapter
from shared.pbx.generic.adapter import GenericSettings, generic_adapter
from shared.pbx.pbxware.adapter import PbxwareSettings, pbxware_adapter
from shared.pbx.port import FetchesRecordings, Finding, PbxAdapter, Phones, RawHook
from shared.pbx.threecx.adapter import ThreeCxSettings, threecx_adapter
from shared.pbx.uis.adapter import UisSettings, uis_adapter
from shared.pbx.wazo.adapter import WazoSettings, wazo_adapter
from shared.pbx.yeastar.adapter import YeastarSettings, yeastar_adapter
from shared.recordings.folder import RecordingFolder
from shared.secrets import SecretBox
from shared.site.book import SiteBook
from shared.site.fetching import FilesOfPbx, HttpOfPbx
from shared.site.models import Site
from shared.site.pbx import (
    AsteriskPbx,
    FreeSwitchPbx,
    GenericPbx,
    Pbx,
    PbxwarePbx,
    ThreeCxPbx,
    UisPbx,
    WazoPbx,
    YeastarPbx,
)
from shared.site.pbxnotes import NotedRecordings, PbxNotes, secrets_of
from shared.site.recordings import by_http

log = structlog.get_logger(__name__)

#: Fields of connections that credentials are sent to.
_ADDRESSES = {"url", "call_api", "data_api"}

#: What a connection depends on and no more, so that it outlives every other change of the site.
#: Secrets are open in it, as each `apply` seals them anew.
PbxSettings: TypeAlias = (
    AsteriskSettings
    | FreeSwitchSettings
    | GenericSettings
    | PbxwareSettings
    | ThreeCxSettings
    | UisSettings
    | WazoSettings
    | YeastarSettings
)


class Adapters:
    """Makes adapters; the one of a connection is kept while that stays as it is."""

    def __init__(
        self,
        *,
        secrets: SecretBox,
        http: HttpClient,
        clock: Clock,
        metrics: Metrics,
        notes: RequestNotes | None = None,
    ) -> None:
        """*notes*: where each request to a PBX is noted."""
        self._notes = notes or NoNotes()
        self._secrets = secrets
        self._http = http
        self._clock = clock
        self._metrics = metrics
        self._made: dict[tuple[str, str], tuple[PbxSettings, PbxAdapter]] = {}
        self._read: dict[tuple[str, str], tuple[Pbx, str, PbxSettings]] = {}

    def wanted(self, book: SiteBook) -> dict[tuple[str, str], PbxSettings]:
        """By tenant and PBX, what :meth:`make` takes. One that cannot be used is logged and left out."""
        found: dict[tuple[str, str], PbxSettings] = {}
        for tenant, site in book.current.items():
            for pbx in site.pbx:
                try:
                    self.of(site, pbx)
                    found[tenant, pbx.name] = self.settings(site, pbx)
                except BadSetting as error:
                    log.error(  # noqa: TRY400  no traceback
                        "pbx_not_usable", tenant=tenant, pbx=pbx.name, error=error.message
                    )
        return found

    def settings(self, site: Site, pbx: Pbx) -> PbxSettings:
        """Raises: BadSetting: no key opens its secrets, or they would go out in clear."""
        key = site.tenant, pbx.name
        known = self._read.get(key)
        if known is None or known[0] is not pbx or known[1] != site.zone:
            _check_addresses(pbx, self._http)
            known = self._read[key] = pbx, site.zone, _settings_of(pbx, site, self._secrets)
        return known[2]

    def of(self, site: Site, pbx: Pbx) -> PbxAdapter:
        """Raises: BadSetting as :meth:`settings`, and for what its kind cannot work with."""
        settings = self.settings(site, pbx)
        known = self._made.get((site.tenant, pbx.name))
        if known is None or known[0] != settings:
            made = self.make(site.tenant, pbx.name, settings)
            known = self._made[site.tenant, pbx.name] = settings, made
        return known[1]

    def recordings(self, site: Site, pbx: Pbx) -> FetchesRecordings | RecordingFolder | None:
        """Where its recordings come from. Raises: BadSetting, as :meth:`of`."""
        match pbx.fetch_recordings:
            case FilesOfPbx(folder=folder):
                return RecordingFolder(Path(folder))
            case HttpOfPbx() as said:
                secrets = [*said.headers.values(), *([said.password] if said.password else [])]
                opened = [self._secrets.open(one).get_secret_value() for one in secrets]
                notes = self._noting(site.tenant, pbx.name, said.origin.host or "", opened)
                return NotedRecordings(
                    by_http(pbx.name, said, notes.http(self._http), self._secrets)
                )
        return self.of(site, pbx).recordings

    async def check(self, site: Site, pbx: Pbx) -> AsyncIterator[Finding]:
        """What is wrong with the connection, and with what the site says of it. Raises nothing."""
        try:
            settings = self.settings(site, pbx)
            adapter = self.make(site.tenant, pbx.name, settings, phones=phones_of(site, pbx))
        except BadSetting as error:
            yield Finding("settings", error.message)
            return
        async for found in adapter.check():
            yield found
        try:
            self.recordings(site, pbx)
        except BadSetting as error:
            yield Finding("recordings", error.message)

    def make(
        self, tenant: str, pbx: str, settings: PbxSettings, *, phones: Phones | None = None
    ) -> PbxAdapter:
        """A new one. *phones*, where a check can compare them. Raises: BadSetting."""
        notes = self._noting(tenant, pbx, getattr(settings, "host", ""), secrets_of(settings))
        return notes.noting(self._made_of(tenant, pbx, settings, notes, phones))

    def _noting(self, tenant: str, pbx: str, host: str, secrets: Sequence[str]) -> PbxNotes:
        return PbxNotes(
            tenant=tenant,
            pbx=pbx,
            host=host,
            secrets=secrets,
            notes=self._notes,
            clock=self._clock,
        )

    def _made_of(
        self,
        tenant: str,
        pbx: str,
        settings: PbxSettings,
        notes: PbxNotes,
        phones: Phones | None,
    ) -> PbxAdapter:
        """Raises: BadSetting."""
        http, clock, metrics = notes.http(self._http), self._clock, self._metrics
        match settings:
            case AsteriskSettings():
                return asterisk_adapter(
                    settings,
                    tenant=tenant,
                    pbx=pbx,
                    clock=clock,
                    metrics=metrics,
                    on_order=notes.ordered,
                    names=http.names,
                )
            case FreeSwitchSettings():
                return freeswitch_adapter(
                    settings,
                    tenant=tenant,
                    pbx=pbx,
                    clock=clock,
                    metrics=metrics,
                    on_order=notes.ordered,
                    names=http.names,
                )
            case GenericSettings():
                return generic_adapter(settings, tenant=tenant, pbx=pbx)
            case PbxwareSettings():
                return pbxware_adapter(settings)
            case ThreeCxSettings():
                return threecx_adapter(
                    settings,
                    tenant=tenant,
                    pbx=pbx,
                    http=http,
                    clock=clock,
                    metrics=metrics,
                    phones=phones,
                )
            case UisSettings():
                return uis_adapter(
                    settings, tenant=tenant, pbx=pbx, http=http, clock=clock, phones=phones
                )
            case WazoSettings():
                return wazo_adapter(
                    settings,
                    tenant=tenant,
                    pbx=pbx,
                    http=http,
                    clock=clock,
                    metrics=metrics,
                    phones=phones,
                )
            case YeastarSettings():
                return yeastar_adapter(
                    settings, tenant=tenant, pbx=pbx, http=http, clock=clock, metrics=metrics
                )


def phones_of(site: Site, pbx: Pbx) -> Phones:
    """The phones that are at this PBX, as far as the site says where they are."""
    there = [agent for agent in site.agents if agent.pbx in {None, pbx.name}]
    return Phones(
        trunks=frozenset(getattr(pbx, "trunks", ())),
        extensions=frozenset(agent.extension for agent in there),
        users={agent.pbx_user: agent.extension for agent in there if agent.pbx_user},
    )


def _check_addresses(pbx: Pbx, http: HttpClient) -> None:
    """Raises: BadSetting."""
    for name, value in pbx.model_dump(include=_ADDRESSES).items():
        url = URL(value or "")
        if url.scheme == "http" and not http.may_be_plain(url.host or ""):
            raise BadSetting(
                f"pbx {pbx.name}: {name}: http sends the credentials in clear; use https, or let "
                f"the operator list {url.host} in CALLMESH_NET_ALLOW or CALLMESH_NET_PLAIN"
            )


def check_sender(pbx: Pbx, peer: str) -> None:
    """Whether the PBX's requests may come from there. Raises: Forbidden."""
    if pbx.senders and not contains(pbx.senders, peer):
        raise Forbidden(
            f"{peer} is not in the `senders` of PBX {pbx.name}; behind a proxy this is the proxy's "
            "address"
        )


def hook_of(request: RawRequest, *, received_at: datetime) -> RawHook:
    """A PBX's request as its adapter takes it: our key is not for it."""
    return RawHook(
        method=request.method,
        content_type=request.headers.get("content-type", ""),
        query={name: value for name, value in request.query.items() if name != KEY_PARAMETER},
        headers=request.headers,
        body=request.body,
        received_at=received_at,
    )


def _settings_of(pbx: Pbx, site: Site, box: SecretBox) -> PbxSettings:
    """Raises: BadSetting."""
    match pbx:
        case AsteriskPbx():
            return AsteriskSettings(
                host=pbx.host,
                port=pbx.port,
                guarded=pbx.guarded,
                username=pbx.username,
                secret=box.open(pbx.secret),
                tls=pbx.tls,
                fingerprint=_bytes(pbx.fingerprint),
                technology=pbx.technology,
                outbound_context=pbx.outbound_context,
                statuses=pbx.statuses,
            )
        case FreeSwitchPbx():
            return FreeSwitchSettings(
                host=pbx.host,
                port=pbx.port,
                guarded=pbx.guarded,
                username=pbx.username,
                password=box.open(pbx.password),
                outbound_context=pbx.outbound_context,
                domain=pbx.domain,
                queue_domain=pbx.queue_domain,
                statuses=pbx.statuses,
            )
        case GenericPbx():
            return GenericSettings(signing_secret=_opened(pbx.signing_secret, box))
        case PbxwarePbx():
            return PbxwareSettings(as_json=pbx.as_json)
        case ThreeCxPbx():
            return ThreeCxSettings(
                url=pbx.url,
                client_id=pbx.client_id,
                client_secret=box.open(pbx.client_secret),
                fingerprint=_bytes(pbx.fingerprint),
            )
        case UisPbx():
            return UisSettings(
                call_api=pbx.call_api,
                data_api=pbx.data_api,
                access_token=box.open(pbx.access_token),
                data_token=_opened(pbx.data_token, box),
                virtual_number=pbx.virtual_number,
                zone=pbx.zone,
                calls_available=pbx.calls_available,
                statuses=pbx.statuses,
                branches=pbx.branches,
                numbers=pbx.numbers,
                default_branch=pbx.default_branch,
                recordings=pbx.recordings,
            )
        case WazoPbx():
            return WazoSettings(
                url=pbx.url,
                username=pbx.username,
                password=box.open(pbx.password),
                tenant_uuid=pbx.tenant_uuid,
                context=pbx.context,
                fingerprint=_bytes(pbx.fingerprint),
                statuses=pbx.statuses,
            )
        case YeastarPbx():
            return YeastarSettings(
                url=pbx.url,
                client_id=pbx.client_id,
                client_secret=box.open(pbx.client_secret),
                zone=pbx.zone or site.zone,
                fingerprint=_bytes(pbx.fingerprint),
                events=pbx.events.value,
                webhook_secret=_opened(pbx.webhook_secret, box),
                queues=frozenset(pbx.queues),
                auto_answer=pbx.auto_answer,
                statuses=pbx.statuses,
            )


def _opened(sealed: str | None, box: SecretBox) -> SecretStr | None:
    return None if sealed is None else box.open(sealed)


def _bytes(fingerprint: str | None) -> bytes | None:
    return None if fingerprint is None else bytes.fromhex(fingerprint)

"""What the operations of gateway work with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.gateway.access.desk import AccessDesk
from services.gateway.hooks.marks import ClickBook, HookMarks
from services.gateway.recordings.accesses import AccessLog
from services.gateway.recordings.playing import Player
from services.gateway.screens.desk import ScreenDesk
from services.gateway.store import AuditLog
from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import DeliveryBook
from services.gateway.subscribers.sending import Sender
from shared.bus.port import DeadLetters, Publisher, Requester
from shared.clock import Clock
from shared.crm.connections import CrmConnections
from shared.errors import NotFound
from shared.net.client import HttpClient
from shared.observe.metrics import Metrics
from shared.recordings.links import RecordingLinks
from shared.runtime.outbox import SpoolingPublisher
from shared.runtime.requests import RequestLog
from shared.secrets import SecretBox
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.models import CrmConnection, Site
from shared.site.ruleedit import RuleDesk


@dataclass(frozen=True, slots=True)
class HttpDeps:
    spool: SpoolingPublisher
    publisher: Publisher
    requester: Requester
    letters: DeadLetters
    screens: ScreenDesk
    audit: AuditLog
    access: AccessDesk
    requests: RequestLog
    site: SiteBook
    rules: RuleDesk
    secrets: SecretBox
    connections: CrmConnections
    adapters: Adapters
    links: RecordingLinks
    click_links: ClickLinks
    click_book: ClickBook
    marks: HookMarks
    player: Player
    accesses: AccessLog
    subscribers: SubscriberBook
    deliveries: DeliveryBook
    sender: Sender
    http: HttpClient
    clock: Clock
    metrics: Metrics
    ask_within: timedelta
    dial_within: timedelta
    #: As others reach this gateway, without a slash at the end.
    public_url: str | None = None

    def connection_names(self, tenant: str, wanted: str | None) -> tuple[str, ...]:
        """All of the tenant's CRM connections, or the one *wanted*. Raises: NotFound."""
        site = self.site.site(tenant)
        names = tuple(crm.name for crm in site.crm) if site else ()
        if wanted is None and names:
            return names
        if wanted is None or wanted not in names:
            raise NotFound(f"There is no CRM connection {wanted or 'of this tenant'}.")
        return (wanted,)

    def connection(self, tenant: str, name: str) -> tuple[Site, CrmConnection]:
        """Raises: NotFound."""
        site = self.site.site(tenant)
        crm = site.crm_named(name) if site else None
        if site is None or crm is None:
            raise NotFound(f"There is no CRM connection {name}.")
        return site, crm

"""What decides calls, made of real parts over one store."""

from __future__ import annotations

from datetime import timedelta

from services.routing.asking import Asking
from services.routing.custom import CustomCrmClient
from services.routing.decider import Decider
from services.routing.deciding import Deciding
from services.routing.handlers import Deps
from services.routing.owners import OwnerPhones
from services.routing.prefetch import Prefetch
from services.routing.responsible import Managers
from services.routing.shelf import Shelves
from services.routing.staff import Staff
from services.routing.staff_store import AGENTS, StaffBook
from services.routing.store import DecisionLog
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.users import USERS, UserBook
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.site.book import SiteBook
from shared.site.documents import RULES, SITES
from shared.site.rulebook import RuleBook
from shared.storage.port import DocumentStore

_SECOND = timedelta(seconds=1)


def routing_deps(
    store: DocumentStore,
    clock: Clock,
    *,
    connections: CrmConnections,
    finder: Finder,
    decisions: DecisionLog,
    publisher: Publisher,
) -> Deps:
    site = SiteBook(store.collection(SITES), clock, poll=_SECOND)
    shelves = Shelves(RuleBook(store.collection(RULES), clock, poll=_SECOND), site)
    staff = Staff(clock)
    phones = OwnerPhones(UserBook(store.collection(USERS), clock), connections.glance, clock)
    asking = Asking(
        finder=finder,
        custom=CustomCrmClient(HttpClient(AddressGuard()), SecretBox([new_key()]), clock),
        managers=Managers(connections, phones, staff),
        staff=staff,
    )
    decider = Decider(
        deciding=Deciding(asking, clock),
        shelves=shelves,
        site=site,
        decisions=decisions,
        publisher=publisher,
        metrics=Metrics(),
    )
    return Deps(
        decider=decider,
        finder=finder,
        site=site,
        prefetch=Prefetch(finder, site, shelves, clock),
        staff=staff,
        staff_book=StaffBook(store.collection(AGENTS), clock),
    )

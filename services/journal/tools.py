"""What writing entries needs, and how long it waits before the next try."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.journal.book import EntryBook
from services.journal.settings import JournalSettings
from services.journal.store import CallLog
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.users import UserBook
from shared.errors import TransientError
from shared.observe.metrics import Metrics
from shared.recordings.links import RecordingLinks
from shared.site.book import SiteBook

#: By how much a claim outlasts the longest try: time to write down what became of it.
_SPARE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Tools:
    calls: CallLog
    entries: EntryBook
    site: SiteBook
    connections: CrmConnections
    finder: Finder
    publisher: Publisher
    clock: Clock
    metrics: Metrics
    settings: JournalSettings
    users: UserBook
    #: None: entries have what the PBX says, or the connection's own text.
    recording_links: RecordingLinks | None = None

    @property
    def longest_try(self) -> timedelta:
        """Looking for the entry, and writing it."""
        return 2 * self.settings.write_within

    @property
    def lease(self) -> timedelta:
        """How long a claim holds: until after the longest try."""
        return self.longest_try + _SPARE

    def wait_after(self, tries: int, error: TransientError) -> timedelta:
        """Doubles with the tries; never shorter than the CRM asks for."""
        doubled = self.settings.retry_first * (1 << min(max(tries - 1, 0), 20))
        asked = error.retry_after or timedelta(0)
        return max(min(doubled, self.settings.retry_longest), asked)

    def count(self, outcome: str) -> None:
        self.metrics.count("callmesh_journal_entries_total", outcome)

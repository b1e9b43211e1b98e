"""What dialer's handlers of dials work with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.dialer.links import Switchboards
from services.dialer.meters import MeterBook
from services.dialer.store import DialBook
from services.dialer.turns import TurnBook
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.observe.metrics import Metrics
from shared.site.book import SiteBook


@dataclass(frozen=True, slots=True)
class Deps:
    dials: DialBook
    turns: TurnBook
    meters: MeterBook
    boards: Switchboards
    site: SiteBook
    publisher: Publisher
    clock: Clock
    metrics: Metrics
    order_within: timedelta

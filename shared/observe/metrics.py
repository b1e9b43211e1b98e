"""
Metrics. Every name is in one table with its meaning and labels; nothing else can be counted.

Labels are few and closed: never a call id, a number or a tenant's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MetricName = Literal[
    "callmesh_deliveries_total",
    "callmesh_handling_seconds",
    "callmesh_published_total",
    "callmesh_spooled_total",
    "callmesh_spool_waiting",
    "callmesh_hooks_total",
    "callmesh_cards_total",
    "callmesh_http_requests_total",
    "callmesh_http_request_seconds",
    "callmesh_pbx_events_total",
    "callmesh_pbx_connected",
    "callmesh_crm_requests_total",
    "callmesh_crm_request_seconds",
    "callmesh_crm_turn_seconds",
    "callmesh_contact_lookups_total",
    "callmesh_route_decisions_total",
    "callmesh_route_decision_seconds",
    "callmesh_journal_entries_total",
    "callmesh_recordings_total",
    "callmesh_dials_total",
    "callmesh_dials_refused_total",
    "callmesh_statuses_heard_total",
    "callmesh_statuses_told_total",
    "callmesh_live_streams",
    "callmesh_pops_total",
    "callmesh_stream_starts_total",
    "callmesh_webhooks_total",
    "callmesh_webhooks_waiting",
    "callmesh_request_log_total",
]


@dataclass(frozen=True, slots=True)
class Metric:
    kind: type[Counter | Gauge | Histogram]
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: dict[MetricName, Metric] = {
    "callmesh_deliveries_total": Metric(
        Counter,
        "Messages handed to a handler, by outcome: done, retried, dead; a question or a live copy "
        "that failed: refused (the handler said no), failed (a fault of ours).",
        ("service", "type", "outcome"),
    ),
    "callmesh_handling_seconds": Metric(
        Histogram, "Time a handler took for one message.", ("service", "type")
    ),
    "callmesh_published_total": Metric(
        Counter, "Messages whose acceptance the bus confirmed, or refused.", ("type", "outcome")
    ),
    "callmesh_spooled_total": Metric(
        Counter, "Messages kept in the store because the bus was away.", ("service",)
    ),
    "callmesh_spool_waiting": Metric(
        Gauge, "Messages in the store that wait for the bus.", ("service",)
    ),
    "callmesh_hooks_total": Metric(
        Counter,
        "What PBXs and CRMs sent by themselves: accepted (by the broker), spooled (the broker is "
        "away), replayed (a signed request that came before, or whose time is not now), forged (no "
        "key, token or signature of ours), oversized, unreadable, not_allowed (from another network, "
        "or by a key without the scope), unknown (no such connection), not_now (broker and store are "
        "away).",
        ("outcome",),
    ),
    "callmesh_cards_total": Metric(
        Counter,
        "Times that a CRM with cards of its own was told of a call, by outcome: told, unreached (it "
        "knows none of the phones), failed; late: a ring that was over when we came to it.",
        ("moment", "outcome"),
    ),
    "callmesh_http_requests_total": Metric(
        Counter, "HTTP requests answered.", ("operation", "status")
    ),
    "callmesh_http_request_seconds": Metric(
        Histogram, "Time to answer an HTTP request.", ("operation",)
    ),
    "callmesh_pbx_events_total": Metric(
        Counter,
        "Events read from PBX connections and hooks: used, ignored, garbage (could not be read), "
        "dropped (our queue was full).",
        ("kind", "outcome"),
    ),
    "callmesh_pbx_connected": Metric(
        Gauge, "PBX connections that are up in this process.", ("kind",)
    ),
    "callmesh_crm_requests_total": Metric(
        Counter,
        "Requests to CRMs by outcome: ok, or the error's code: rejected, throttled, unavailable, "
        "out_of_time, needs_reconnect.",
        ("template", "outcome"),
    ),
    "callmesh_crm_request_seconds": Metric(
        Histogram, "Time a CRM took to answer one request.", ("template",)
    ),
    "callmesh_crm_turn_seconds": Metric(
        Histogram,
        "Time a request waited for its turn: for the CRM's rate, a free place, the end of a pause.",
        ("template", "priority"),
    ),
    "callmesh_contact_lookups_total": Metric(
        Counter,
        "Contact lookups by where the answer came from: process, store, stale, crm, failed.",
        ("answer",),
    ),
    "callmesh_route_decisions_total": Metric(
        Counter, "Route decisions by reason.", ("face", "reason")
    ),
    "callmesh_route_decision_seconds": Metric(
        Histogram, "Time from the PBX's question to our answer.", ("face",)
    ),
    "callmesh_journal_entries_total": Metric(
        Counter,
        "Steps of journal entries: sent, found, updated, update_refused, retried, dead.",
        ("outcome",),
    ),
    "callmesh_recordings_total": Metric(
        Counter,
        "Requests for recordings: given (whole or a part), forged (no link of ours), ended (the "
        "link), missing, not_now (not written yet, PBX or store away), refused (by the PBX, too "
        "large, no right).",
        ("outcome",),
    ),
    "callmesh_dials_total": Metric(Counter, "Click-to-call orders by final state.", ("state",)),
    "callmesh_dials_refused_total": Metric(
        Counter,
        "Click-to-call orders that were refused at once, by why: no_agent, no_number, own_phone; "
        "emergency, short_code, blocked, country, international, kind, caller_id (the site's "
        "`dialing`); per_minute, per_hour, per_day, cost (its limits); dialling (the phone is), "
        "other_order (of the same idempotency key), too_late.",
        ("why",),
    ),
    "callmesh_statuses_heard_total": Metric(
        Counter,
        "What sides (pbx, crm, api) said of agents: changed, echo (of what they were told), same, "
        "late (something later was said before), doubled (the very message again), foreign (of a "
        "PBX that is not the agent's), unheeded (of a CRM whose `status.heed` is off).",
        ("side", "verdict"),
    ),
    "callmesh_statuses_told_total": Metric(
        Counter,
        "What sides (pbx, crm) were told of agents: told, refused, too_late (away for longer than "
        "a status holds), overtaken (by a newer one), nobody (no user of the CRM has the phone), "
        "switched_off (in the site, or the CRM has no word for it).",
        ("side", "outcome"),
    ),
    "callmesh_live_streams": Metric(Gauge, "Open agent streams."),
    "callmesh_stream_starts_total": Metric(
        Counter,
        "Live streams by how they began: fresh, resumed (by the last id), reset (that was not known "
        "any more).",
        ("how",),
    ),
    "callmesh_pops_total": Metric(
        Counter, "Screen pops sent, by what was known then.", ("contact",)
    ),
    "callmesh_webhooks_total": Metric(
        Counter,
        "Tries to tell subscribers by outcome: delivered, failed (it is tried again), dead (it is "
        "not), ended (the subscriber answered 410).",
        ("outcome",),
    ),
    "callmesh_webhooks_waiting": Metric(
        Gauge, "Webhooks that wait for their first try, or for the next; of all processes."
    ),
    "callmesh_request_log_total": Metric(
        Counter,
        "Lines of the log of requests to CRMs and PBXs: kept, dropped (more than fit, or the store "
        "was away for too long).",
        ("outcome",),
    ),
}
#: From half a millisecond, a cached decision, to ten seconds, the slowest CRM that is waited for.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry per process; children are bound once per label set and kept."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._parents: dict[MetricName, Counter | Gauge | Histogram] = {}
        self._children: dict[tuple[MetricName, tuple[str, ...]], Counter | Gauge | Histogram] = {}
        for name, metric in METRICS.items():
            if metric.kind is Histogram:
                self._parents[name] = Histogram(
                    name, metric.meaning, metric.labels, registry=self.registry, buckets=_BUCKETS
                )
            else:
                self._parents[name] = metric.kind(
                    name, metric.meaning, metric.labels, registry=self.registry
                )

    def count(self, name: MetricName, *labels: str, by: float = 1) -> None:
        child = self._child(name, labels)
        assert isinstance(child, Counter | Gauge), name  # noqa: S101  a programming fault
        child.inc(by)

    def set(self, name: MetricName, *labels: str, to: float) -> None:
        child = self._child(name, labels)
        assert isinstance(child, Gauge), name  # noqa: S101  a programming fault
        child.set(to)

    def observe(self, name: MetricName, *labels: str, seconds: float) -> None:
        child = self._child(name, labels)
        assert isinstance(child, Histogram), name  # noqa: S101  a programming fault
        child.observe(seconds)

    @contextmanager
    def timed(self, name: MetricName, *labels: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self.observe(name, *labels, seconds=perf_counter() - began)

    def value(self, name: MetricName, *labels: str) -> float:
        """The current value of a counter or gauge: for tests and for ``doctor``."""
        suffix = "_total" if METRICS[name].kind is Counter and not name.endswith("_total") else ""
        found = self.registry.get_sample_value(
            name + suffix, dict(zip(METRICS[name].labels, labels, strict=True))
        )
        return found or 0.0

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def _child(self, name: MetricName, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        key = (name, labels)
        if (child := self._children.get(key)) is None:
            parent = self._parents[name]
            child = self._children[key] = parent.labels(*labels) if labels else parent
        return child

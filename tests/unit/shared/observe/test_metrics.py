from __future__ import annotations

import re
from typing import Any, cast, get_args

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from shared.observe.metrics import METRICS, MetricName, Metrics

COUNTERS = [name for name, metric in METRICS.items() if metric.kind is Counter]
GAUGES = [name for name, metric in METRICS.items() if metric.kind is Gauge]
HISTOGRAMS = [name for name, metric in METRICS.items() if metric.kind is Histogram]
LABELLED = [name for name, metric in METRICS.items() if metric.labels]


def the_labels_of(name: MetricName) -> tuple[str, ...]:
    """A value for each of its labels."""
    return tuple(f"a-{label}" for label in METRICS[name].labels)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a Prometheus server reads: name and labels, with the value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


# -- the table ----------------------------------------------------------------------------------


def test_every_name_is_declared_and_every_declared_name_is_one() -> None:
    assert set(METRICS) == set(get_args(MetricName))


@pytest.mark.parametrize("name", METRICS)
def test_a_name_says_whose_it_is_and_its_unit(name: MetricName) -> None:
    metric = METRICS[name]

    assert re.fullmatch(r"callmesh_[a-z_]+", name)
    assert name.endswith("_total") == (metric.kind is Counter)
    assert name.endswith("_seconds") == (metric.kind is Histogram)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_a_meaning_in_a_sentence(name: MetricName) -> None:
    assert METRICS[name].meaning.endswith(".")


@pytest.mark.parametrize("name", LABELLED)
def test_no_label_is_without_bounds(name: MetricName) -> None:
    """A call, a number or a tenant as a label would make a series of each."""
    assert not {"call_id", "number", "tenant", "caller", "did"} & set(METRICS[name].labels)


# -- counting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_counts(name: MetricName) -> None:
    metrics, labels = Metrics(), the_labels_of(name)

    metrics.count(name, *labels)
    metrics.count(name, *labels, by=2)

    assert metrics.value(name, *labels) == 3


@pytest.mark.parametrize("name", GAUGES)
def test_a_gauge_is_set_and_moves_both_ways(name: MetricName) -> None:
    metrics, labels = Metrics(), the_labels_of(name)

    metrics.set(name, *labels, to=5)
    metrics.count(name, *labels, by=-2)

    assert metrics.value(name, *labels) == 3


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_keeps_how_often_and_how_long(name: MetricName) -> None:
    metrics, labels = Metrics(), the_labels_of(name)

    metrics.observe(name, *labels, seconds=0.2)
    metrics.observe(name, *labels, seconds=3)

    found = samples(metrics)
    named = tuple(sorted(zip(METRICS[name].labels, labels, strict=True)))
    assert found[f"{name}_count", named] == 2
    assert found[f"{name}_sum", named] == pytest.approx(3.2)
    assert found[f"{name}_bucket", tuple(sorted([*named, ("le", "0.25")]))] == 1


def test_time_is_taken_also_when_the_work_fails() -> None:
    metrics = Metrics()

    with pytest.raises(ZeroDivisionError), metrics.timed("callmesh_crm_request_seconds", "zoho"):
        _ = 1 / 0

    assert samples(metrics)["callmesh_crm_request_seconds_count", (("template", "zoho"),)] == 1


def test_series_with_other_labels_are_counted_apart() -> None:
    metrics = Metrics()

    metrics.count("callmesh_dials_total", "connected")

    assert metrics.value("callmesh_dials_total", "failed") == 0


def test_two_processes_in_one_count_apart() -> None:
    one, other = Metrics(), Metrics()

    one.count("callmesh_dials_total", "connected")

    assert other.value("callmesh_dials_total", "connected") == 0


# -- what cannot be counted ---------------------------------------------------------------------


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("more", [-1, 1])
def test_a_label_too_few_or_too_many_is_an_error(name: MetricName, more: int) -> None:
    metrics = Metrics()
    labels = (*the_labels_of(name), "one-more")[: len(METRICS[name].labels) + more]
    act: Any = {
        Counter: lambda: metrics.count(name, *labels),
        Gauge: lambda: metrics.set(name, *labels, to=1),
        Histogram: lambda: metrics.observe(name, *labels, seconds=1),
    }[METRICS[name].kind]

    with pytest.raises(ValueError, match="label"):
        act()


def test_a_label_where_there_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="label"):
        Metrics().set("callmesh_live_streams", "acme", to=1)


def test_what_is_not_declared_cannot_be_counted() -> None:
    with pytest.raises(KeyError):
        Metrics().count(cast("MetricName", "callmesh_surprises_total"))


def test_a_counter_never_goes_back() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        Metrics().count("callmesh_dials_total", "connected", by=-1)


def test_a_metric_of_another_kind_is_an_error() -> None:
    metrics = Metrics()

    with pytest.raises(AssertionError):
        metrics.set("callmesh_dials_total", "connected", to=1)
    with pytest.raises(AssertionError):
        metrics.observe("callmesh_dials_total", "connected", seconds=1)
    with pytest.raises(AssertionError):
        metrics.count("callmesh_crm_request_seconds", "zoho")


# -- exposition ---------------------------------------------------------------------------------


def test_the_exposition_is_read_by_prometheus_and_has_every_metric() -> None:
    families = {
        family.name: (family.type, family.documentation)
        for family in text_string_to_metric_families(Metrics().exposition().decode())
    }

    assert families == {
        name.removesuffix("_total"): (metric.kind.__name__.lower(), metric.meaning)
        for name, metric in METRICS.items()
    }


def test_the_exposition_has_what_was_counted() -> None:
    metrics = Metrics()
    metrics.count("callmesh_deliveries_total", "journal", "calls.ended", "done", by=2)

    assert (
        samples(metrics)[
            "callmesh_deliveries_total",
            (("outcome", "done"), ("service", "journal"), ("type", "calls.ended")),
        ]
        == 2
    )

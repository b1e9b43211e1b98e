from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.observe import otlp_if_wanted, tracing
from shared.observe.tracing import TraceContext, parse

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def numbers(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


@dataclass
class RecordingExporter:
    """Keeps what it was asked to open; numbers its spans."""

    opened: list[tuple[str, TraceContext | None, dict[str, str]]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    closed: bool = False

    @contextmanager
    def span(
        self, name: str, parent: TraceContext | None, attributes: dict[str, str]
    ) -> Iterator[TraceContext]:
        self.opened.append((name, parent, attributes))
        number = f"{len(self.opened):016x}"
        try:
            yield TraceContext(parent.trace_id if parent else TRACE, number)
        except Exception as error:
            self.ended.append(f"{name} failed: {error}")
            raise
        self.ended.append(name)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def exporter() -> Iterator[RecordingExporter]:
    recording = RecordingExporter()
    tracing.export_to(recording)
    yield recording
    tracing.export_to(None)


# -- traceparent --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (PARENT, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
    ],
)
def test_a_traceparent_is_read(text: str, sampled: bool) -> None:
    assert parse(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("hello", id="a word"),
        pytest.param(f"00-{TRACE}-{SPAN}", id="no flags"),
        pytest.param(f"{PARENT}-more", id="a part too many"),
        pytest.param(f" {PARENT}", id="a blank in front"),
        pytest.param(f"{PARENT}\n", id="a line break behind"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="capitals"),
        pytest.param(f"00-{TRACE[1:]}-{SPAN}-01", id="a short trace"),
        pytest.param(f"00-{TRACE}0-{SPAN}-01", id="a long trace"),
        pytest.param(f"00-{TRACE}-{SPAN[1:]}-01", id="a short span"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", id="short flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-zz", id="no hex"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no span"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="the version that is none"),
    ],
)
def test_a_malformed_traceparent_is_none(text: str | None) -> None:
    assert parse(text) is None


@given(st.text() | st.text("0123456789abcdef-"))
@settings(deadline=None)
def test_any_header_is_read_without_an_error(text: str) -> None:
    found = parse(text)

    assert found is None or isinstance(found, TraceContext)


@given(numbers(32), numbers(16), st.booleans())
@settings(deadline=None)
def test_a_context_is_read_back_from_its_traceparent(trace: str, span: str, sampled: bool) -> None:
    context = TraceContext(trace, span, sampled)

    assert parse(context.traceparent) == context


@pytest.mark.parametrize("sampled", [True, False])
def test_a_child_is_another_span_of_the_same_trace(sampled: bool) -> None:
    parent = TraceContext(TRACE, SPAN, sampled)
    child = parent.child()

    assert (child.trace_id, child.sampled) == (TRACE, sampled)
    assert child.span_id != SPAN
    assert parse(child.traceparent) == child


# -- spans --------------------------------------------------------------------------------------


def test_outside_of_spans_there_is_no_trace() -> None:
    assert (tracing.current(), tracing.traceparent()) == (None, None)


def test_a_span_without_anything_above_begins_a_trace() -> None:
    with tracing.span("one") as one:
        pass
    with tracing.span("other") as other:
        pass

    assert parse(one.traceparent) == one
    assert one.trace_id != other.trace_id


def test_the_current_span_is_what_goes_on_the_wire() -> None:
    with tracing.span("one") as one:
        assert tracing.current() == one
        assert tracing.traceparent() == one.traceparent


def test_a_span_inside_a_span_belongs_to_its_trace() -> None:
    with tracing.span("outer") as outer, tracing.span("inner") as inner:
        assert inner.trace_id == outer.trace_id
        assert inner.span_id != outer.span_id


def test_after_a_span_the_one_around_it_is_current_again() -> None:
    with tracing.span("outer") as outer:
        with tracing.span("inner"):
            pass
        assert tracing.current() == outer
    assert tracing.current() is None


def test_a_span_that_fails_is_left_all_the_same() -> None:
    with pytest.raises(ZeroDivisionError), tracing.span("one"):
        _ = 1 / 0

    assert tracing.current() is None


def test_a_parent_from_outside_wins_over_the_current_span() -> None:
    with tracing.span("outer"), tracing.span("inner", parent=PARENT) as inner:
        assert inner.trace_id == TRACE


@pytest.mark.parametrize("broken", ["hello", "", None])
def test_a_broken_parent_leaves_the_current_one(broken: str | None) -> None:
    with tracing.span("outer") as outer, tracing.span("inner", parent=broken) as inner:
        assert inner.trace_id == outer.trace_id


def test_what_the_parent_does_not_want_recorded_stays_so() -> None:
    with tracing.span("one", parent=f"00-{TRACE}-{SPAN}-00") as one:
        assert not one.sampled


async def test_a_task_goes_on_in_the_span_that_started_it() -> None:
    async def work() -> TraceContext:
        with tracing.span("inner") as inner:
            return inner

    with tracing.span("outer") as outer:
        inner = await asyncio.create_task(work())

    assert inner.trace_id == outer.trace_id


async def test_tasks_do_not_see_each_others_spans() -> None:
    both_inside = asyncio.Barrier(2)

    async def work() -> tuple[TraceContext, TraceContext | None]:
        with tracing.span("work") as own:
            await both_inside.wait()
            return own, tracing.current()

    found = await asyncio.gather(work(), work())

    assert [seen for _, seen in found] == [own for own, _ in found]
    assert tracing.current() is None


# -- export -------------------------------------------------------------------------------------


def test_the_exporter_opens_the_spans(exporter: RecordingExporter) -> None:
    with tracing.span("outer", parent=PARENT, tenant="acme") as outer, tracing.span("inner"):
        pass

    assert exporter.opened == [
        ("outer", TraceContext(TRACE, SPAN), {"tenant": "acme"}),
        ("inner", outer, {}),
    ]
    assert exporter.ended == ["inner", "outer"]


def test_the_exporters_context_goes_on_the_wire(exporter: RecordingExporter) -> None:
    with tracing.span("one"):
        assert tracing.traceparent() == f"00-{TRACE}-0000000000000001-01"


def test_the_exporter_learns_of_a_failure(exporter: RecordingExporter) -> None:
    with pytest.raises(RuntimeError, match="no route"), tracing.span("one"):
        raise RuntimeError("no route")

    assert exporter.ended == ["one failed: no route"]
    assert tracing.current() is None


def test_without_an_exporter_nothing_is_exported_any_more(exporter: RecordingExporter) -> None:
    tracing.export_to(None)

    with tracing.span("one"):
        pass

    assert exporter.opened == []


def test_without_an_endpoint_nobody_exports() -> None:
    assert otlp_if_wanted("") is None

"""
Trace context (W3C Trace Context): carried through HTTP and the bus in every installation.

Spans are exported only where the extra ``callmesh[otel]`` is installed and an endpoint is set
(:mod:`shared.observe.otlp`); without it a span costs two small objects and a context variable.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

_TRACEPARENT = re.compile(
    r"^00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})$"
)


@dataclass(frozen=True, slots=True)
class TraceContext:
    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> TraceContext:
        return TraceContext(self.trace_id, secrets.token_hex(8), self.sampled)


def parse(traceparent: str | None) -> TraceContext | None:
    """None for a missing or malformed header: a broken caller does not break the trace."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if not found or set(found["trace"]) == {"0"} or set(found["span"]) == {"0"}:
        return None
    return TraceContext(found["trace"], found["span"], bool(int(found["flags"], 16) & 1))


class SpanExporter(Protocol):
    """Opens a real span below *parent*; yields the context that goes on the wire."""

    def span(
        self, name: str, parent: TraceContext | None, attributes: dict[str, str]
    ) -> AbstractContextManager[TraceContext]: ...

    def close(self) -> None: ...


_current: ContextVar[TraceContext | None] = ContextVar("callmesh_trace", default=None)
_exporters: list[SpanExporter] = []


def export_to(exporter: SpanExporter | None) -> None:
    """Send spans of this process to *exporter*; None stops that."""
    _exporters[:] = [exporter] if exporter else []


def current() -> TraceContext | None:
    return _current.get()


def traceparent() -> str | None:
    """What to put on an outgoing message or request."""
    context = _current.get()
    return context.traceparent if context else None


@contextmanager
def span(name: str, *, parent: str | None = None, **attributes: str) -> Iterator[TraceContext]:
    """A span below *parent* (a traceparent), else below the current one, else a new trace."""
    above = parse(parent) or _current.get()
    if _exporters:
        with _exporters[0].span(name, above, attributes) as context, _entered(context):
            yield context
        return
    with _entered(above.child() if above else _new()) as context:
        yield context


@contextmanager
def _entered(context: TraceContext) -> Iterator[TraceContext]:
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def _new() -> TraceContext:
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8))

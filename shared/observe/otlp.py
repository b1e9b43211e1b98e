"""Spans to an OpenTelemetry collector; needs the extra ``callmesh[otel]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from shared.observe.tracing import TraceContext


class OtlpExporter:
    """OTLP over HTTP, in batches, off the event loop (the SDK's own thread)."""

    def __init__(self, *, endpoint: str, service: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("callmesh")

    @contextmanager
    def span(
        self, name: str, parent: TraceContext | None, attributes: dict[str, str]
    ) -> Iterator[TraceContext]:
        above = None
        if parent:
            above = trace.set_span_in_context(
                trace.NonRecordingSpan(
                    trace.SpanContext(
                        trace_id=int(parent.trace_id, 16),
                        span_id=int(parent.span_id, 16),
                        is_remote=True,
                        trace_flags=trace.TraceFlags(int(parent.sampled)),
                    )
                )
            )
        with self._tracer.start_as_current_span(name, above, attributes=attributes) as opened:
            context = opened.get_span_context()
            yield TraceContext(
                trace.format_trace_id(context.trace_id),
                trace.format_span_id(context.span_id),
                bool(context.trace_flags & trace.TraceFlags.SAMPLED),
            )

    def close(self) -> None:
        self._provider.shutdown()

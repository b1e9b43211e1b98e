"""What the mesh says about itself: logs, metrics, traces."""

from __future__ import annotations

from shared.errors import BadSetting
from shared.observe.tracing import SpanExporter


def otlp_if_wanted(endpoint: str, *, service: str = "callmesh") -> SpanExporter | None:
    """None for an empty *endpoint*. Raises: BadSetting without the extra ``callmesh[otel]``."""
    if not endpoint:
        return None
    try:
        from shared.observe.otlp import OtlpExporter
    except ImportError:
        raise BadSetting(
            "CALLMESH_OTEL_ENDPOINT: needs the extra, `pip install callmesh[otel]`"
        ) from None
    return OtlpExporter(endpoint=endpoint, service=service)

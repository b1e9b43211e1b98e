"""The only list of services."""

from __future__ import annotations

from typing import Any

from services.dialer import app as dialer
from services.gateway import app as gateway
from services.ingest import app as ingest
from services.journal import app as journal
from services.lookup import app as lookup
from services.routing import app as routing
from shared.bus.port import Consumer
from shared.http.routes import Operation
from shared.runtime.service import Entry
from shared.runtime.settings import SHARED, Settings

#: In the order of the data's way through the mesh.
CATALOG: dict[str, Entry] = {
    app.ENTRY.name: app.ENTRY for app in (ingest, lookup, routing, journal, dialer, gateway)
}


def consumers() -> list[Consumer]:
    """Every durable subscription of the mesh, whichever process runs it."""
    return [consumer for entry in CATALOG.values() for consumer in entry.router.consumers]


def settings_classes() -> list[type[Settings]]:
    return [*SHARED, *(entry.settings for entry in CATALOG.values())]


def operations() -> list[Operation[Any]]:
    return [operation for entry in CATALOG.values() for operation in entry.operations]

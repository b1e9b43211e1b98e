"""
The wire: every message that crosses between services, once, versioned.

Within a version only optional fields are added; anything else is a new version with its own
routing key. A golden sample of each version lies in ``tests/data/contracts`` and parses for ever.
"""

from shared.contracts import (
    agents,
    calls,
    cards,
    columns,
    contacts,
    dialing,
    history,
    hooks,
    journal,
    modules,
    pbx,
    routing,
    screens,
)

__all__ = [
    "agents",
    "calls",
    "cards",
    "columns",
    "contacts",
    "dialing",
    "history",
    "hooks",
    "journal",
    "modules",
    "pbx",
    "routing",
    "screens",
]

"""
The wire: every message that crosses between services, once, versioned.

Within a version only optional fields are added; anything else is a new version with its own
routing key. A golden sample of each version lies in ``tests/data/contracts`` and parses for ever.
"""

from shared.contracts import (
    agents,
    calls,
    columns,
    contacts,
    dialing,
    history,
    hooks,
    journal,
    pbx,
    routing,
)

__all__ = [
    "agents",
    "calls",
    "columns",
    "contacts",
    "dialing",
    "history",
    "hooks",
    "journal",
    "pbx",
    "routing",
]

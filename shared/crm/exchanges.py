"""The request behind an error, and its answer, as an error carries them."""

from __future__ import annotations

from shared.contracts.journal import Exchange
from shared.errors import MeshError


def exchange_of(error: MeshError) -> Exchange | None:
    """None where no request was made."""
    found = error.details.get("exchange")
    return found if isinstance(found, Exchange) else None

"""PBX adapters as the services see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.contracts.calls import CallEvent


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    Something seen of a call. *key* tells it apart from every other sighting of the tenant, and
    is the same for every replica that saw it: the message's id is made from it.
    """

    body: CallEvent
    at: datetime
    key: str

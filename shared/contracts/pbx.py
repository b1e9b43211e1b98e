"""How PBX connections are."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.contracts.envelope import Query, contract
from shared.ids import Name
from shared.moments import Instant


class LinkRecord(BaseModel):
    """One replica's connection to a PBX."""

    pbx: Name
    kind: str
    connected: bool
    fault: str | None = Field(default=None, description="Why there is no connection.")
    seen_at: Instant = Field(description="When the replica last said so.")
    clock_ahead_seconds: float | None = Field(
        default=None, description="How far the PBX's clock is ahead of ours, where it is known."
    )


class LinkPage(BaseModel):
    links: tuple[LinkRecord, ...]


@contract("pbx.links", version=1, answer=LinkPage)
class ListLinks(Query[LinkPage]):
    """How are the tenant's PBX connections, in every replica that keeps one?"""

    pbx: Name | None = Field(default=None, description="Of this one only.")

    def subject(self) -> str:
        return f"pbx:{self.pbx or '*'}"

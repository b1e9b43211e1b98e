"""What ingest remembers: how its PBX connections are, for ``doctor`` and dashboards."""

from __future__ import annotations

from datetime import timedelta

from shared.clock import Clock
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document

#: A replica says again that it is there this often; what is older than three is gone.
SAY_EVERY = timedelta(seconds=30)


class LinkState(Document):
    """``key`` is ``tenant/pbx``."""

    connected: bool
    fault: str | None = None
    seen_at: Instant
    expires_at: Instant


LINKS: CollectionSpec[LinkState] = CollectionSpec(
    name="ingest.links", model=LinkState, expires_by="expires_at"
)


class LinkBook:
    def __init__(self, links: Collection[LinkState], clock: Clock) -> None:
        self._links = links
        self._clock = clock

    async def say(self, *, tenant: str, pbx: str, fault: str | None) -> None:
        now = self._clock.now()
        await self._links.put(
            LinkState(
                key=f"{tenant}/{pbx}",
                tenant=tenant,
                connected=fault is None,
                fault=fault,
                seen_at=now,
                expires_at=now + 3 * SAY_EVERY,
            )
        )

"""How sites are kept: one document per tenant."""

from __future__ import annotations

from shared.moments import Instant
from shared.site.models import Site
from shared.storage.port import CollectionSpec, Document, Index


class SiteDocument(Document):
    """``key`` is the tenant."""

    site: Site
    changed_at: Instant
    changed_by: str


SITES: CollectionSpec[SiteDocument] = CollectionSpec(
    name="site.tenants", model=SiteDocument, indexes=(Index(fields=("changed_at",)),)
)

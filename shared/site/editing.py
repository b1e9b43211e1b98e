"""Changing a part of a stored site, as the API does."""

from __future__ import annotations

from collections.abc import Callable

from shared.clock import Clock
from shared.errors import Conflict, ContractError, NotFound
from shared.site.apply import Plan, carry_out
from shared.site.documents import SiteDocument
from shared.site.models import Site
from shared.storage.port import Collection

_TRIES = 5


async def edit_site(
    stored: Collection[SiteDocument],
    tenant: str,
    edit: Callable[[Site], Site],
    *,
    clock: Clock,
    by: str,
) -> Site:
    """
    The site as it is then. *edit* is asked again when somebody else changed it meanwhile.

    Raises: NotFound without a site, ContractError for one that would not hold together, Conflict
    when others are faster each time, and what *edit* raises.
    """
    for _ in range(_TRIES):
        document = await stored.get(tenant)
        site = edit(document.site)
        if site == document.site:
            return site
        if faults := site.faults():
            raise ContractError("; ".join(what for _, what in faults))
        wanted = Plan(
            (), [document.model_copy(update={"site": site, "changed_by": by})], frozenset()
        )
        try:
            await carry_out(wanted, stored, clock=clock)
        except Conflict:
            continue
        except NotFound:
            break
        return site
    raise Conflict(f"tenant {tenant} is being changed by others; try again")

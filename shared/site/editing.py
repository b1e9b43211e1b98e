"""Changing a part of a stored site, as the API does."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import Conflict, ContractError, NotFound
from shared.site.apply import store_sites
from shared.site.models import Site
from shared.site.ruleedit import RuleDesk
from shared.site.rules.checks import dangling, in_words

_TRIES = 5


async def edit_site(desk: RuleDesk, tenant: str, edit: Callable[[Site], Site], *, by: str) -> Site:
    """
    The site as it is then. *edit* is asked again when somebody else changed it meanwhile.

    A rule that is put at the same moment is not seen: it may then need what is gone, and decides
    as where its CRM is down.

    Raises: NotFound without a site, ContractError for one that would not hold together or that
    stored rules could not be carried out with, Conflict when others are faster each time, and what
    *edit* raises.
    """
    for _ in range(_TRIES):
        document = await desk.stored.sites.get(tenant)
        site = edit(document.site)
        if site == document.site:
            return site
        if faults := site.faults():
            raise ContractError("; ".join(what for _, what in faults))
        await desk.book.refresh()
        rules = desk.book.of(tenant)
        before = set(dangling(document.site, rules.values(), rules))
        after = dangling(site, rules.values(), rules)
        if needed := [fault for fault in after if fault not in before]:
            raise ContractError(in_words(needed))
        wanted = document.model_copy(update={"site": site, "changed_by": by})
        try:
            await store_sites([wanted], frozenset(), desk.stored.sites, clock=desk.clock)
        except Conflict:
            continue
        except NotFound:
            break
        return site
    raise Conflict(f"tenant {tenant} is being changed by others; try again")

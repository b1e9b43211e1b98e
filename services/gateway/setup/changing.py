"""A part of a tenant's site is changed over the API."""

from __future__ import annotations

from collections.abc import Callable

from services.gateway.deps import HttpDeps
from shared.errors import Conflict, ContractError
from shared.http.auth import Caller
from shared.site.editing import edit_site
from shared.site.models import Site


async def change_site(
    deps: HttpDeps,
    caller: Caller,
    edit: Callable[[Site], Site],
    *,
    action: str,
    subject: str,
    tenant: str | None = None,
) -> Site:
    """
    The site as it is then, which this process knows by then. *action* and *subject* are for the
    audit log; *tenant*: another than the caller's. Raises as :func:`edit_site`.
    """
    await note(deps, caller, action=action, subject=subject)
    by = f"key {caller.key_name}"
    site = await edit_site(deps.rules, tenant or caller.tenant, edit, by=by)
    await deps.site.refresh()
    return site


async def remove_from_site(
    deps: HttpDeps, caller: Caller, edit: Callable[[Site], Site], *, action: str, subject: str
) -> None:
    """As :func:`change_site`; what stands in the way of it is a Conflict."""
    try:
        await change_site(deps, caller, edit, action=action, subject=subject)
    except ContractError as error:
        raise Conflict(error.message) from None


async def note(deps: HttpDeps, caller: Caller, *, action: str, subject: str) -> None:
    await deps.audit.note(
        tenant=caller.tenant, key_name=caller.key_name, action=action, subject=subject
    )

"""Whether the PBX has taken an order, for who shows its answer to a user at once."""

from __future__ import annotations

from datetime import timedelta

from services.gateway.deps import HttpDeps
from shared.contracts.dialing import DialRecord, DialState, FetchDial
from shared.errors import NotFound, Unavailable
from shared.ids import call_id

_LOOK = timedelta(milliseconds=100)
#: The PBX has five seconds for it, see `CALLMESH_DIALER_ORDER_WITHIN`.
_WITHIN = timedelta(seconds=6)


async def when_taken(deps: HttpDeps, placed: DialRecord, *, tenant: str) -> DialRecord:
    """
    *placed* as it is when the PBX has taken or refused it; as far as it is known, when that takes
    longer than the PBX has for it, or nobody can say.
    """
    known, until = placed, deps.clock.now() + _WITHIN
    while not _is_decided(known, tenant) and deps.clock.now() < until:
        try:
            known = await deps.requester.request(
                FetchDial(dial_id=placed.dial_id), within=deps.ask_within, tenant=tenant
            )
        except (NotFound, Unavailable):
            break  # it was placed: the phone may ring
        if not _is_decided(known, tenant):
            await deps.clock.sleep(_LOOK)
    return known


def _is_decided(dial: DialRecord, tenant: str) -> bool:
    """A PBX that names the call has taken the order; of others the first event says it."""
    ours = call_id(tenant, dial.pbx or "", dial.dial_id)
    return dial.state is not DialState.REQUESTED or dial.call_id != ours

"""Asking PBXs what became of calls that have ended, as long as they do not know yet."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from services.ingest.domain import ends_first
from services.ingest.handlers import Deps
from services.ingest.store import ReportDue
from shared.clock import Clock
from shared.errors import Conflict, MeshError, NotFound, TransientError
from shared.site.adapters import phones_of

log = structlog.get_logger(__name__)

_LOOK = timedelta(seconds=1)
_AT_ONCE = 8


async def ask_for_reports(deps: Deps, clock: Clock) -> None:
    """For ever."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(due: ReportDue) -> None:
        async with places:
            await _ask(deps, due)

    while True:
        await clock.sleep(_LOOK)
        if not deps.site.loaded:
            continue
        try:
            due = await deps.reports.due()
        except TransientError as error:
            log.warning("reports_not_asked", error=error.message)
        else:
            await asyncio.gather(*(ask(one) for one in due))


async def _ask(deps: Deps, due: ReportDue) -> None:
    """Raises nothing: the reports of other calls, and of other PBXs, do not hang on this one."""
    say = log.bind(tenant=due.tenant, pbx=due.pbx, call=due.pbx_call_id, tries=due.attempts + 1)
    try:
        taken = await deps.reports.take(due)
    except (Conflict, NotFound):
        return  # another replica has it
    except MeshError as error:
        say.warning("report_not_asked", error=error.message)
        return
    try:
        if await _told(deps, due):
            await deps.reports.done(taken)
            return
        say.info("report_not_there_yet")
    except MeshError as error:
        say.warning("report_not_had", error=error.message)
    except Exception:  # noqa: BLE001  an answer that surprises us must not end the service
        say.exception("report_not_read")
    if taken.due_at >= taken.expires_at:
        say.error("report_given_up")


async def _told(deps: Deps, due: ReportDue) -> bool:
    """Whether there is nothing more to ask. Raises: MeshError."""
    try:
        site, pbx = deps.site.pbx(due.tenant, due.pbx)
    except NotFound:
        return True  # the connection was removed
    reporter = deps.adapters.of(site, pbx).reporter
    if reporter is None:
        return True  # it is of another kind by now
    found = await reporter.report(due.pbx_call_id, due.ended_at, phones_of(site, pbx))
    for one in ends_first(found):
        await deps.publisher.publish(one.body, tenant=due.tenant, key=one.key, at=one.at)
    if found:
        log.info("report_read", pbx=due.pbx, events=len(found), tries=due.attempts + 1)
    return bool(found)

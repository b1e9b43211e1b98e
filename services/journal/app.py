"""Composition root of journal: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.journal.handlers import Deps, router
from services.journal.settings import JournalSettings
from services.journal.silence import end_silent_calls
from services.journal.store import CALLS, ENTRIES, CallLog, EntryBook
from services.journal.writer import EntryWriter, Tools
from shared.contracts.calls import CallEnded
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.crm.users import USERS, UserBook
from shared.runtime.service import Entry, Platform, Service

NAME = "journal"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    connections = platform.crm_connections()
    finder = platform.finder(connections)
    settings = JournalSettings.read()
    calls = CallLog(
        platform.store.collection(CALLS), platform.clock, silent_after=settings.silent_after
    )
    publisher = platform.publisher(NAME)
    entries = EntryBook(platform.store.collection(ENTRIES), platform.clock)
    writer = EntryWriter(
        Tools(
            calls=calls,
            entries=entries,
            site=platform.site,
            connections=connections,
            finder=finder,
            publisher=publisher,
            users=UserBook(platform.store.collection(USERS), platform.clock),
            clock=platform.clock,
            metrics=platform.metrics,
            settings=settings,
            recording_links=platform.recording_links(),
        )
    )
    deps = Deps.over(
        platform.store,
        calls=calls,
        site=platform.site,
        connections=connections,
        finder=finder,
        publisher=publisher,
        clock=platform.clock,
        wake=writer.wake,
    )
    ending = partial(end_silent_calls, calls, publisher, platform.clock)
    try:
        yield Service(name=NAME, subscriptions=router.bind(deps), tasks=(writer.run, ending))
    finally:
        await finder.close()
        await connections.close()


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=JournalSettings,
    publishes=(CallEnded, CallJournaled, JournalFailed),
)

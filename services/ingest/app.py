"""Composition root of ingest: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.ingest.handlers import Deps, door, router
from services.ingest.raw import RawTape
from services.ingest.readers import PbxReaders, Tools
from services.ingest.reporting import ask_for_reports
from services.ingest.settings import IngestSettings
from services.ingest.store import LINKS, RAW, REPORTS, LinkBook, RawBook, ReportBook
from shared.bus.port import ForeignDoor
from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallSummarised,
    CallTransferred,
    LegEnded,
    PbxResynced,
    RecordingReady,
)
from shared.contracts.hooks import HookReceived
from shared.runtime.service import Entry, Platform, Service

NAME = "ingest"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = IngestSettings.read()
    store, clock = platform.store, platform.clock
    publisher = platform.spooling_publisher(NAME)
    adapters = platform.pbx_adapters()
    raw = RawBook(store.collection(RAW), clock, keep=settings.keep_raw)
    tape = RawTape(raw, clock)
    links = LinkBook(store.collection(LINKS), clock)
    deps = Deps(
        # A hook's events go to the bus itself: what fails comes again with the hook.
        publisher=platform.publisher(NAME),
        adapters=adapters,
        site=platform.site,
        tape=tape,
        reports=ReportBook(store.collection(REPORTS), clock),
        links=links,
        metrics=platform.metrics,
        report_within=settings.report_within,
    )
    readers = PbxReaders(
        platform.site,
        Tools(
            publisher=publisher,
            book=links,
            tape=tape,
            adapters=adapters,
            clock=clock,
            metrics=platform.metrics,
            publish_at_once=settings.publish_at_once,
        ),
    )
    yield Service(
        name=NAME,
        subscriptions=router.bind(deps),
        door=ForeignDoor(service=NAME, handler=door(deps)),
        tasks=(publisher.relay, readers.run, tape.run, partial(ask_for_reports, deps, clock)),
    )


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=IngestSettings,
    publishes=(
        AgentStatusChanged,
        HookReceived,
        CallAnswered,
        CallEnded,
        CallHeld,
        CallQueued,
        CallResumed,
        CallRinging,
        CallStarted,
        CallSummarised,
        CallTransferred,
        LegEnded,
        PbxResynced,
        RecordingReady,
    ),
)

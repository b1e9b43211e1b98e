"""Composition root of ingest: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.ingest.handlers import Deps, router
from services.ingest.links import AsteriskReaders, Tools
from services.ingest.settings import IngestSettings
from services.ingest.store import LINKS, LinkBook
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallTransferred,
    LegEnded,
    RecordingReady,
)
from shared.runtime.service import Entry, Platform, Service

NAME = "ingest"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = IngestSettings.read()
    publisher = platform.spooling_publisher(NAME)
    tools = Tools(
        publisher=publisher,
        book=LinkBook(platform.store.collection(LINKS), platform.clock),
        secrets=platform.secrets,
        clock=platform.clock,
        metrics=platform.metrics,
        publish_at_once=settings.publish_at_once,
    )
    readers = AsteriskReaders(platform.site, tools)
    yield Service(
        name=NAME,
        # A hook's events go to the bus itself: what fails comes again with the hook.
        subscriptions=router.bind(Deps(publisher=platform.publisher(NAME))),
        tasks=(publisher.relay, readers.run),
    )


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=IngestSettings,
    publishes=(
        CallAnswered,
        CallEnded,
        CallHeld,
        CallQueued,
        CallResumed,
        CallRinging,
        CallStarted,
        CallTransferred,
        LegEnded,
        RecordingReady,
    ),
)

"""Ports whose every durable or outside step is named, and at which a process may end itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

import structlog
from pydantic import BaseModel
from yarl import URL

from services.journal.store import CallDocument, EntryDocument
from shared.bus.port import DeadLetters, ForeignDoor, MessageBus, Subscription
from shared.contracts.calls import EntryState
from shared.contracts.envelope import Message
from shared.contracts.journal import CallJournaled
from shared.net.client import Answer, HttpClient
from shared.net.guard import AddressGuard
from shared.storage.port import Collection, CollectionSpec, Document, DocumentStore, Find, Page

#: As a shell reports SIGKILL.
KILLED: Final = 137
#: Header of a request at whose answer the CRM's side kills the process with this id.
DIES_WHEN_DONE: Final = "X-Dies-When-Done"
#: A step of several entries at once is nobody's.
SEVERAL: Final = "several"

#: Until an acknowledgement is surely on its way, in seconds.
_ACKNOWLEDGED = 0.05

D = TypeVar("D", bound=Document)


class When(StrEnum):
    BEFORE = "before"
    #: Of a request: the CRM has done it, and has not answered.
    DONE = "done"
    AFTER = "after"


class Death(BaseModel):
    """Where a process ends."""

    step: str
    when: When
    call: str

    @property
    def place(self) -> str:
        return f"{self.when} {self.step}"


class Fate:
    """
    Ends the process at the first step whose place is not among *covered*; never at one of the
    calls that are *spared*. *tell* is told of it just before.
    """

    def __init__(
        self, *, covered: Sequence[str], spared: Sequence[str], tell: Callable[[Death], None]
    ) -> None:
        self._covered = set(covered)
        self._spared = set(spared)
        self._tell = tell
        self._sealed = False

    @asynccontextmanager
    async def step(self, name: str, call: str) -> AsyncIterator[None]:
        self.reach(name, When.BEFORE, call)
        yield
        self.reach(name, When.AFTER, call)

    def reach(self, name: str, when: When, call: str) -> None:
        if self.seals(name, when, call):
            die()

    def seals(self, name: str, when: When, call: str) -> bool:
        """Whether it ends here; who asks sees to it."""
        death = Death(step=name, when=when, call=call)
        if self._sealed or death.place in self._covered or call in self._spared:
            return False
        self._sealed = True
        self._tell(death)
        return True


def die() -> None:
    """As SIGKILL would: nothing is drained, nothing is flushed."""
    os._exit(KILLED)


class MortalBus:
    """Steps: a message sent; a delivery done, before and after it is acknowledged."""

    def __init__(self, bus: MessageBus, fate: Fate) -> None:
        self._bus = bus
        self._fate = fate

    @property
    def dead_letters(self) -> DeadLetters:
        return self._bus.dead_letters

    def subscribe(self, subscription: Subscription) -> None:
        handler = subscription.handler

        async def handle(message: Message[Any]) -> BaseModel | None:
            answer = await handler(message)
            call = getattr(message.body, "call_id", None)
            if call is not None:
                name = f"acknowledge {_title(message)}"
                self._fate.reach(name, When.BEFORE, call)
                if self._fate.seals(name, When.AFTER, call):
                    asyncio.get_running_loop().call_later(_ACKNOWLEDGED, die)
            return answer

        if subscription.durable:
            subscription = replace(subscription, handler=handle)
        self._bus.subscribe(subscription)

    def open_door(self, door: ForeignDoor) -> None:
        self._bus.open_door(door)

    async def start(self) -> None:
        await self._bus.start()

    async def stop(self, *, drain: timedelta) -> None:
        await self._bus.stop(drain=drain)

    async def ready(self) -> bool:
        return await self._bus.ready()

    async def send(self, message: Message[Any]) -> None:
        async with self._fate.step(f"send {_title(message)}", message.body.call_id):
            await self._bus.send(message)

    async def ask(self, message: Message[Any], *, within: timedelta) -> bytes:
        return await self._bus.ask(message, within=within)


class MortalStore:
    """Steps: whatever is written to the journal's own collections."""

    def __init__(self, store: DocumentStore, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def collection(self, spec: CollectionSpec[D]) -> Collection[D]:
        found = self._store.collection(spec)
        ours = issubclass(spec.model, CallDocument | EntryDocument)
        return MortalCollection(found, self._fate) if ours else found

    async def ready(self) -> bool:
        return await self._store.ready()

    async def close(self) -> None:
        await self._store.close()


class MortalCollection(Collection[D]):
    def __init__(self, documents: Collection[D], fate: Fate) -> None:
        self._documents = documents
        self._fate = fate

    async def get(self, key: str) -> D:
        return await self._documents.get(key)

    async def add(self, document: D) -> None:
        async with self._fate.step(*_written(document)):
            await self._documents.add(document)

    async def add_all(self, documents: Sequence[D]) -> None:
        """Of logs, which are written behind: no step of the work."""
        await self._documents.add_all(documents)

    async def put(self, document: D) -> None:
        async with self._fate.step(*_written(document)):
            await self._documents.put(document)

    async def replace(self, document: D) -> D:
        async with self._fate.step(*_written(document)):
            return await self._documents.replace(document)

    async def delete(self, key: str) -> bool:
        async with self._fate.step("delete", key.partition("/")[0]):
            return await self._documents.delete(key)

    async def page(self, query: Find) -> Page[D]:
        return await self._documents.page(query)

    async def count(self, where: Any = None, /, **equals: Any) -> int:
        return await self._documents.count(where, **equals)


class MortalClient(HttpClient):
    """Steps: a request to the CRM, by its method; one more place is where the CRM has done it."""

    def __init__(self, guard: AddressGuard, fate: Fate) -> None:
        super().__init__(guard)
        self._fate = fate
        self._looked_for: set[str] = set()

    async def send(self, method: str, url: URL, **more: Any) -> Answer:
        call = structlog.contextvars.get_contextvars().get("call_id", SEVERAL)
        if "/oauth" in url.path:
            # A sign-in is the connection's, not an entry's, and who dies in it is waited for long.
            return await super().send(method, url, **more)
        name = _REQUESTS.get(method, method)
        if name == "look":
            self._looked_for.add(call)
        elif name == "write" and call in self._looked_for:
            name = "write after a look"
        async with self._fate.step(name, call):
            if self._fate.seals(name, When.DONE, call):
                headers = more.get("headers") or {}
                more["headers"] = {**headers, DIES_WHEN_DONE: str(os.getpid())}
            return await super().send(method, url, **more)


_REQUESTS = {"GET": "look", "POST": "write", "PUT": "change"}


def _title(message: Message[Any]) -> str:
    updated = isinstance(message.body, CallJournaled) and message.body.updated
    return f"{message.type} (updated)" if updated else message.type


def _written(document: Document) -> tuple[str, str]:
    """The step that writing it is, and whose."""
    if isinstance(document, CallDocument):
        newest = document.events[-1]
        updated = " (updated)" if newest.body.get("updated") else ""
        return f"keep {newest.type}{updated}", document.key
    assert isinstance(document, EntryDocument)
    is_new = document.state is EntryState.SENT and not document.told
    flags = {
        "again": document.state is EntryState.SENDING and document.attempts > 1,
        "found": is_new and document.found,
        "told": document.told,
        "to be changed": document.update_due,
        "being changed": document.update_due and document.update_tries > 0,
        "nothing due": document.due_at is None,
    }
    named = ", ".join(name for name, is_so in flags.items() if is_so)
    return f"entry {document.state}" + (f" ({named})" if named else ""), document.call_id

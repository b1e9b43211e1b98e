"""What ``template test`` tries, one thing after the other, and what it says of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import BaseModel

from shared.clock import Clock
from shared.contracts.calls import Direction, Disposition
from shared.contracts.contacts import ContactCard
from shared.crm.engine.connector import TemplateConnector
from shared.crm.port import JournalEntry, NewContact
from shared.ids import new_id, reference
from shared.phone import parse

_WITHIN = timedelta(seconds=30)
_SHOWN_USERS = 20
#: What an entry learns after it was sent; nothing is there.
_RECORDING = "https://pbx.invalid/recordings/callmesh-test.wav"

Attempt = tuple[str, Callable[[], Awaitable[Sequence[str]]]]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be tried; *write*: contacts and entries are really made."""

    number: str
    modules: tuple[str, ...]
    fields: tuple[str, ...]
    write: bool


class Attempts:
    """Each uses what those before it found. All raise MeshError."""

    def __init__(
        self, connector: TemplateConnector, trial: Trial, region: str | None, clock: Clock
    ) -> None:
        self._connector = connector
        self._trial = trial
        self._number = parse(trial.number, region)
        self._clock = clock
        self._met: list[ContactCard] = []
        self._written: tuple[str, JournalEntry] | None = None

    def all(self) -> list[Attempt]:
        manifest = self._connector.manifest
        attempts: list[Attempt] = [("check", self._check)]
        if manifest.users is not None:
            attempts.append(("users", self._users))
        attempts.append((f"search {self._trial.number}", self._search))
        if not self._trial.write:
            return attempts
        if any(self._connector.can_create(name) for name in manifest.contacts):
            attempts.append(("create", self._create))
        if manifest.journal is not None:
            attempts.append(("journal", self._journal))
        if self._connector.can_update:
            attempts.append(("update", self._update))
        return attempts

    async def _check(self) -> Sequence[str]:
        await self._connector.check()
        return ["the credentials are good"]

    async def _users(self) -> Sequence[str]:
        found = await self._connector.list_users(within=_WITHIN)
        lines = [_line(user) for user in found[:_SHOWN_USERS]]
        return [f"{len(found)} active users", *lines]

    async def _search(self) -> Sequence[str]:
        answers = await self._connector.search(
            self._number,
            modules=self._trial.modules,
            fields=self._trial.fields,
            card=True,
            within=_WITHIN,
        )
        self._met.extend(card for answer in answers for card in answer.contacts)
        refused = [f"{a.module}: refused: {a.refused}" for a in answers if a.refused]
        return [*refused, *(_line(card) for card in self._met)] or ["nobody has this number"]

    async def _create(self) -> Sequence[str]:
        names = self._connector.manifest.contacts
        module = next((name for name in names if self._connector.can_create(name)), "")
        new = NewContact(module=module, number=self._number, display_name="callmesh test")
        card = await self._connector.create_contact(new, within=_WITHIN)
        self._met.append(card)
        return [_line(card)]

    async def _journal(self) -> Sequence[str]:
        now = self._clock.now()
        entry = JournalEntry(
            reference=reference(str(new_id())),
            direction=Direction.INBOUND,
            disposition=Disposition.ANSWERED,
            started_at=now - timedelta(seconds=75),
            ended_at=now,
            talk_time=timedelta(seconds=60),
            wait_time=timedelta(seconds=15),
            number=self._number.key,
            dialled=None,
            extension=None,
            agent_name="callmesh test",
            owner_id=None,
            contact=self._met[0] if self._met else None,
            recording=None,
        )
        entry_id = await self._connector.write_entry(entry, within=_WITHIN)
        self._written = entry_id, entry
        await self._clock.sleep(self._connector.settle)
        again = await self._connector.find_entry(entry, within=_WITHIN)
        said = (
            "found again"
            if again == entry_id
            else "NOT found again: after a lost answer it is written twice"
        )
        journal = self._connector.manifest.journal
        known = journal is not None and journal.find is None
        return [f"entry {entry_id}, {'made once by the CRM itself' if known else said}"]

    async def _update(self) -> Sequence[str]:
        if self._written is None:
            return ["there is no entry to change"]
        entry_id, entry = self._written
        later = replace(entry, recording=_RECORDING)
        changed = await self._connector.update_entry(entry_id, later, within=_WITHIN)
        return [f"entry {entry_id} {'has a recording now' if changed else 'stays as it is'}"]


def _line(model: BaseModel) -> str:
    shown = model.model_dump(exclude_none=True, exclude_defaults=True, mode="json")
    return ", ".join(f"{name} {value}" for name, value in shown.items())

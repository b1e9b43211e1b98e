"""
Whatever somebody does with a key, in whatever order, and whatever administrators do meanwhile: no
key that comes of it can do what the first one could not, nor for another phone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.access.desk import AccessDesk
from services.gateway.access.wanted import Draft, Terms
from shared.clock import ManualClock
from shared.errors import ContractError, MeshError
from shared.http.auth import API_KEYS, API_USERS, KEY_USES, KeyBook, KeyUses, Scope
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore

POOL = (Scope.KEYS_WRITE, Scope.CALLS_READ, Scope.CALLS_DIAL, Scope.TENANTS_WRITE)
USERS = ("anna", "boss")
KEYS = ("one", "two", "of-boss")
OVERLAP = timedelta(hours=1)

some_scopes = st.frozensets(st.sampled_from(POOL))
phones = st.sampled_from((None, None, None, None, None, None, "101", "102"))


@dataclass(frozen=True)
class Step:
    """*actor*: which of the tokens that the attacker holds; None: an administrator does it."""

    actor: int | None
    what: str
    user: str
    key: str
    scopes: frozenset[Scope] | None
    extension: str | None
    disabled: bool


steps = st.builds(
    Step,
    actor=st.sampled_from((None, 0, 0, 1, 2)),
    what=st.sampled_from(("put", "put", "issue", "issue", "issue", "rotate", "revoke", "delete")),
    user=st.sampled_from(USERS),
    key=st.sampled_from(KEYS),
    scopes=st.one_of(st.none(), some_scopes),
    extension=phones,
    disabled=st.sampled_from((False, False, False, True)),
)


@dataclass
class World:
    book: KeyBook
    desk: AccessDesk
    clock: ManualClock
    admin: str = ""
    held: list[str] = field(default_factory=list)
    gained: int = 0

    async def take(self, step: Step) -> None:
        """Raises: MeshError, where it is refused."""
        is_attack = step.actor is not None
        token = self.held[(step.actor or 0) % len(self.held)] if is_attack else self.admin
        caller = await self.book.caller(token)
        if is_attack and Scope.KEYS_WRITE not in caller.scopes:
            return
        if step.what == "put":
            draft = Draft(
                title="",
                email=None,
                scopes=step.scopes or frozenset(),
                extension=step.extension,
                disabled=step.disabled,
                rate=None,
            )
            await self.desk.put_user(
                caller, step.user, draft, only_if=lambda _: None, confirmed=True
            )
        elif step.what == "delete":
            await self.desk.delete_user(caller, step.user, only_if=lambda _: None, confirmed=True)
        elif step.what == "revoke":
            await self.desk.revoke(caller, step.key, user=None, confirmed=True)
        elif step.what == "issue":
            terms = Terms(scopes=step.scopes, extension=step.extension, expires_at=None)
            made = await self.desk.issue(caller, step.user, step.key, terms)
            self._gain(made.token.get_secret_value(), is_attack=is_attack)
        else:
            made = await self.desk.rotate(
                caller, step.key, user=None, overlap=OVERLAP, expires_at=None
            )
            self._gain(made.token.get_secret_value(), is_attack=is_attack)

    def _gain(self, token: str, *, is_attack: bool) -> None:
        if is_attack:
            self.held.append(token)
            self.gained += 1


async def play(first: frozenset[Scope], phone: str | None, todo: list[Step]) -> int:
    """How many tokens the attacker got."""
    clock, db = ManualClock(), SqliteFile(None)
    await db.open()
    try:
        store = SqliteStore(db, clock)
        users = store.collection(API_USERS)
        book = KeyBook(store.collection(API_KEYS), clock, users=users)
        desk = AccessDesk(users, book, KeyUses(store.collection(KEY_USES), clock), clock)
        world = World(book, desk, clock)
        admin = await book.issue(tenant="acme", name="admin", scopes=tuple(Scope))
        mine = await book.issue(
            tenant="acme", name="first", scopes=tuple(sorted(first)), extension=phone
        )
        world.admin = admin.get_secret_value()
        world.held.append(mine.get_secret_value())
        for scopes in (frozenset(POOL), frozenset({Scope.CALLS_READ})):
            # Of before he was narrowed, his key has more in it than he may.
            await world.take(Step(None, "put", "boss", "", scopes, None, disabled=False))
            with suppress(MeshError):
                await world.take(Step(None, "issue", "boss", "of-boss", None, None, disabled=False))
        for step in todo:
            try:
                await world.take(step)
            except MeshError:
                continue
            finally:
                await holds(world, first, phone)
        return world.gained
    finally:
        await db.close()


async def holds(world: World, first: frozenset[Scope], phone: str | None) -> None:
    for token in world.held:
        try:
            caller = await world.book.caller(token)
        except MeshError:
            continue
        assert caller.scopes <= first
        assert phone is None or caller.extension is not None


@settings(
    max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(
    first=some_scopes.map(lambda scopes: scopes | {Scope.KEYS_WRITE}),
    phone=phones,
    todo=st.lists(steps, min_size=8, max_size=24),
)
def test_nothing_comes_of_a_key_that_can_do_more(
    first: frozenset[Scope], phone: str | None, todo: list[Step]
) -> None:
    asyncio.run(play(first, phone, todo))


def test_the_attack_gets_somewhere_at_all() -> None:
    """Else the rule above would hold of a door that is bricked up."""
    scopes = frozenset({Scope.KEYS_WRITE, Scope.CALLS_READ})

    def step(what: str, key: str, scopes: frozenset[Scope] | None) -> Step:
        return Step(0, what, "anna", key, scopes, None, disabled=False)

    todo = [
        step("put", "one", scopes),
        step("issue", "one", None),
        step("rotate", "one", None),
        step("issue", "two", frozenset({Scope.CALLS_READ})),
        step("issue", "two", frozenset({Scope.CALLS_DIAL})),
    ]
    assert asyncio.run(play(scopes, None, todo)) == 3


@pytest.mark.parametrize("extension", [None, "101"])
async def test_a_scope_of_the_whole_tenant_is_for_no_single_phone(
    clock: ManualClock, extension: str | None
) -> None:
    db = SqliteFile(None)
    await db.open()
    store = SqliteStore(db, clock)
    users = store.collection(API_USERS)
    book = KeyBook(store.collection(API_KEYS), clock, users=users)
    desk = AccessDesk(users, book, KeyUses(store.collection(KEY_USES), clock), clock)
    admin = await book.issue(tenant="acme", name="admin", scopes=tuple(Scope))
    caller = await book.caller(admin.get_secret_value())
    draft = Draft(
        title="",
        email=None,
        scopes=frozenset({Scope.AUDIT_READ}),
        extension=extension,
        disabled=False,
        rate=None,
    )
    try:
        if extension is None:
            await desk.put_user(caller, "anna", draft, only_if=lambda _: None)
        else:
            with pytest.raises(ContractError, match="audit:read"):
                await desk.put_user(caller, "anna", draft, only_if=lambda _: None)
    finally:
        await db.close()

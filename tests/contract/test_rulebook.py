"""Rules in a store: written with their versions, read by every replica, checked with each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.errors import BadSetting, Conflict, ContractError, NotFound
from shared.ids import new_id
from shared.secrets import SecretBox, new_key
from shared.site.documents import (
    MOST_SOURCE_BYTES,
    RULE_SOURCES,
    RULE_VERSIONS,
    RULES,
    SITES,
    SiteDocument,
    source_of,
)
from shared.site.editing import edit_site
from shared.site.models import Site
from shared.site.rulebook import RuleBook
from shared.site.ruleedit import MOST_VERSIONS, RuleDesk, RuleWrite
from shared.site.rules.rule import RoutingRule, Row
from shared.site.ruleturns import LONGEST, Turns
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore, Find
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

BOX = SecretBox([new_key()])
SECOND = timedelta(seconds=1)
SITE: dict[str, Any] = {
    "region": "GB",
    "crm": [{"name": "zoho", "template": "zoho"}],
    "agents": [{"extension": "101"}],
    "hours": [{"name": "shop", "open": {"mon-fri": ["09:00-17:00"]}}],
}


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    if request.param == "sqlite":
        db = SqliteFile(None)
        await db.open()
        yield SqliteStore(db, clock)
        await db.close()
        return
    url, name = request.getfixturevalue("mongo_url"), f"t{new_id().hex[:10]}"
    store = MongoStore(SecretStr(url), database=name, clock=clock)
    yield store
    await store.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client.drop_database(name)


@pytest.fixture
async def desk(store: DocumentStore, clock: ManualClock) -> RuleDesk:
    for tenant in ("acme", "globex"):
        site = Site.model_validate({"tenant": tenant, **SITE})
        await store.collection(SITES).put(
            SiteDocument(
                key=tenant, tenant=tenant, site=site, changed_at=clock.now(), changed_by="test"
            )
        )
    return another(store, clock)


def another(store: DocumentStore, clock: ManualClock) -> RuleDesk:
    """A replica."""
    return RuleDesk.at(store, secrets=BOX, clock=clock)


ROW = {"operator": "=", "value": "GOLD", "destination": "queue:support"}


def a_rule(name: str = "main", **changes: Any) -> RoutingRule:
    known: dict[str, Any] = {
        "name": name,
        "dids": [f"44207946{sum(name.encode()):04d}"],
        "crm": "zoho",
        "field": "Tier",
        "rows": [ROW],
        "default": "queue:all",
    }
    return RoutingRule.model_validate(known | changes)


def to(name: str) -> list[dict[str, Any]]:
    return [{"operator": "=", "value": "GOLD", "destination": f"rule:{name}"}]


# -- the book -----------------------------------------------------------------------------------


async def test_a_rule_that_is_put_is_in_every_book_as_it_was_said(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    rule = a_rule(within="800ms", dids=["+442079460000"], ivrs=["main"])
    await desk.put_rule("acme", rule, by="ada")

    book = another(store, clock).book
    assert (book.loaded, dict(book.current)) == (False, {})
    assert await book.refresh()
    document = book.of("acme")["main"]
    assert document.read() == rule
    assert (document.name, document.dids, document.ivrs) == ("main", rule.dids, rule.ivrs)
    assert (document.field, document.crm, document.rows) == ("Tier", "zoho", 1)
    assert (document.number, document.what, document.changed_by) == (1, "created", "ada")
    assert document.changed_at == clock.now()
    assert (book.dids("acme"), book.dids("globex")) == (("+442079460000",), ())


async def test_a_book_reads_what_changed_since_and_nothing_twice(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    """Although the clock stands."""
    await desk.put_rule("acme", a_rule("a"), by="ada")
    await desk.put_rule("acme", a_rule("b"), by="ada")
    book = another(store, clock).book
    await book.refresh()
    before = book.of("acme")
    assert not await book.refresh()

    await desk.put_rule("acme", a_rule("b", field="Rank"), by="ada")

    assert await book.refresh()
    assert book.of("acme")["a"] is before["a"]
    assert book.of("acme")["b"].field == "Rank"


async def test_a_deletion_is_noticed_and_so_is_what_comes_back_between_two_looks(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    await desk.put_rule("acme", a_rule(), by="ada")
    book = another(store, clock).book
    await book.refresh()

    await desk.delete_rule("acme", "main", by="bob")
    assert await book.refresh()
    assert dict(book.current) == {}

    await desk.put_rule("acme", a_rule(), by="ada")
    await desk.delete_rule("acme", "main", by="ada")
    await desk.put_rule("acme", a_rule(field="Rank"), by="ada")
    assert await book.refresh()
    assert (book.of("acme")["main"].field, book.of("acme")["main"].number) == ("Rank", 5)


async def test_what_was_taken_out_of_the_store_by_hand_is_noticed(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    for name in ("a", "b"):
        await desk.put_rule("acme", a_rule(name), by="ada")
    book = another(store, clock).book
    await book.refresh()

    await store.collection(RULES).delete("acme/a")

    assert await book.refresh()
    assert list(book.of("acme")) == ["b"]


async def test_a_backup_that_is_played_back_is_noticed(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    """As many rules as before, and all of their changes are older."""
    old = await desk.put_rule("acme", a_rule(), by="ada")
    await desk.put_rule("acme", a_rule(field="Rank"), by="ada")
    book = another(store, clock).book
    await book.refresh()

    await store.collection(RULES).put(old)

    assert await book.refresh()
    assert book.of("acme")["main"].field == "Tier"
    assert not await book.refresh()


@pytest.mark.parametrize("more", [(), ("a",)])
async def test_a_backup_that_was_changed_since_is_noticed(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock, more: tuple[str, ...]
) -> None:
    """As many rules as before, and the newest change is as new as that which was seen, or newer."""
    for name in ("a", "b"):
        await desk.put_rule("acme", a_rule(name), by="ada")
    rules = (await desk.stored.rules.page(Find())).documents
    (turn,) = (await desk.stored.turns.page(Find())).documents
    for name in ("a", "b"):
        await desk.put_rule("acme", a_rule(name, field="Lost"), by="ada")
    book = another(store, clock).book
    await book.refresh()

    for rule in rules:
        await desk.stored.rules.put(rule)
    await desk.stored.turns.put(turn)
    await clock.advance(SECOND)
    for number, name in enumerate(("a", "b", *more)):
        new = a_rule(name, field="New", priority=number)
        await another(store, clock).put_rule("acme", new, by="bob")

    await book.refresh()
    assert {rule.field for rule in book.of("acme").values()} == {"New"}


async def test_more_rules_than_a_page_are_all_read(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    names = [f"r{number:02d}" for number in range(45)]
    for number, name in enumerate(names):
        await desk.put_rule("acme", a_rule(name, dids=[f"4420{number:03d}"]), by="ada")
    book = another(store, clock).book
    await book.refresh()
    assert list(book.of("acme")) == names


async def test_who_watches_reads_a_change_at_the_next_poll_and_tells_who_waits(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    book = RuleBook(store.collection(RULES), clock, poll=SECOND)
    waiting = asyncio.create_task(book.changed())
    watching = asyncio.create_task(book.watch())
    await eventually(lambda: clock.sleepers == 1)
    await desk.put_rule("acme", a_rule(), by="ada")

    await clock.advance(SECOND)
    await waiting

    assert list(book.of("acme")) == ["main"]
    watching.cancel()


# -- versions -----------------------------------------------------------------------------------


async def test_every_change_is_a_version_with_who_made_it_and_no_change_is_none(
    desk: RuleDesk, clock: ManualClock
) -> None:
    await desk.put_rule("acme", a_rule(), by="ada")
    await clock.advance(SECOND)
    await desk.put_rule("acme", a_rule(field="Rank"), by="bob")
    same = await desk.put_rule("acme", a_rule(field="Rank"), by="eve")
    await clock.advance(SECOND)
    await desk.delete_rule("acme", "main", by="cyd")

    assert (same.number, same.changed_by) == (2, "bob")
    found = await desk.versions("acme", "main")
    assert [(one.number, one.what, one.changed_by, one.rows) for one in found] == [
        (3, "deleted", "cyd", 0),
        (2, "changed", "bob", 1),
        (1, "created", "ada", 1),
    ]
    assert [one.changed_at for one in found] == sorted(
        {one.changed_at for one in found}, reverse=True
    )
    _, source = await desk.version("acme", "main", 1)
    assert RoutingRule.model_validate_json(source) == a_rule()
    assert (await desk.version("acme", "main", 3))[1] == ""


async def test_a_rule_goes_back_to_what_it_was_also_when_it_is_gone(desk: RuleDesk) -> None:
    await desk.put_rule("acme", a_rule(), by="ada")
    await desk.put_rule("acme", a_rule(field="Rank"), by="ada")

    back = await desk.roll_back("acme", "main", 1, by="bob")
    assert (back.number, back.what, back.read()) == (3, "rolled back to 1", a_rule())

    await desk.delete_rule("acme", "main", by="bob")
    again = await desk.roll_back("acme", "main", 2, by="bob")
    assert (again.number, again.read().field) == (5, "Rank")
    assert (await desk.roll_back("acme", "main", 5, by="eve")).number == 5


async def test_what_cannot_be_gone_back_to_is_refused(desk: RuleDesk) -> None:
    await desk.put_rule("acme", a_rule("vip"), by="ada")
    await desk.put_rule("acme", a_rule(rows=to("vip")), by="ada")
    await desk.put_rule("acme", a_rule(), by="ada")
    await desk.delete_rule("acme", "vip", by="ada")

    with pytest.raises(ContractError, match="row 1: there is no rule vip"):
        await desk.roll_back("acme", "main", 1, by="ada")
    with pytest.raises(ContractError, match="is its deletion"):
        await desk.roll_back("acme", "vip", 2, by="ada")
    with pytest.raises(NotFound, match="no version 9"):
        await desk.roll_back("acme", "main", 9, by="ada")
    with pytest.raises(NotFound, match="no rule nosuch"):
        await desk.versions("acme", "nosuch")


async def test_the_newest_hundred_versions_are_kept(store: DocumentStore, desk: RuleDesk) -> None:
    for number in range(1, MOST_VERSIONS + 4):
        await desk.put_rule("acme", a_rule(field=f"F{number}"), by="ada")

    found = await desk.versions("acme", "main")
    assert [one.number for one in found] == list(range(MOST_VERSIONS + 3, 3, -1))
    assert (await desk.version("acme", "main", 4))[0].number == 4
    with pytest.raises(NotFound):
        await desk.version("acme", "main", 3)
    kept = (
        await store.collection(RULE_VERSIONS).count(),
        await store.collection(RULE_SOURCES).count(),
    )
    assert kept == (MOST_VERSIONS - 1, MOST_VERSIONS - 1)


async def test_a_writer_that_dies_between_its_two_writes_leaves_a_history_without_gaps(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    old = await desk.put_rule("acme", a_rule(), by="ada")
    # It has kept what it was about to replace, and no more.
    await desk._keep(old)

    assert [one.number for one in await desk.versions("acme", "main")] == [1]
    await another(store, clock).put_rule("acme", a_rule(field="Rank"), by="bob")
    assert [one.number for one in await desk.versions("acme", "main")] == [2, 1]


# -- at the same moment -------------------------------------------------------------------------


async def test_of_two_rules_that_take_a_number_at_the_same_moment_one_is_refused(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    other = another(store, clock)
    found = await asyncio.gather(
        desk.put_rule("acme", a_rule("a", dids=["442079460000"]), by="ada"),
        other.put_rule("acme", a_rule("b", dids=["+442079460000"]), by="bob"),
        return_exceptions=True,
    )
    refused = [one for one in found if isinstance(one, ContractError)]
    assert len(refused) == 1
    assert "is already in rule" in refused[0].message


async def test_many_who_change_rules_at_once_all_do_and_no_serial_is_there_twice(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    desks = [another(store, clock) for _ in range(6)]
    await asyncio.gather(
        *(one.put_rule("acme", a_rule(f"r{n}"), by="ada") for n, one in enumerate(desks)),
        *(one.put_rule("globex", a_rule(f"r{n}"), by="ada") for n, one in enumerate(desks)),
    )
    await desk.book.refresh()
    serials = [
        int(document.serial) for rules in desk.book.current.values() for document in rules.values()
    ]
    assert sorted(serials) == list(range(1, 13))


class Interrupted:
    """A collection before whose first ``put`` something else happens."""

    def __init__(self, inner: Any, first: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._first = [first]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, document: Any) -> None:
        while self._first:
            await self._first.pop()()
        await self._inner.put(document)


def interrupted(
    store: DocumentStore, clock: ManualClock, first: Callable[[], Awaitable[None]]
) -> RuleDesk:
    """A replica that has checked a rule when *first* happens, and has not yet written it."""
    desk = another(store, clock)
    desk.stored = replace(desk.stored, versions=Interrupted(desk.stored.versions, first))
    return desk


async def test_a_change_that_took_long_is_missed_by_nobody(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    """Others changed a rule twice meanwhile: the serial that was next is free again."""
    for name in ("slow", "busy"):
        await desk.put_rule("acme", a_rule(name), by="ada")
    reader = another(store, clock).book

    async def others() -> None:
        for number in range(3):
            await desk.put_rule("acme", a_rule("busy", field=f"F{number}"), by="bob")
        await reader.refresh()

    slow = interrupted(store, clock, others)
    await slow.put_rule("acme", a_rule("slow", field="Late"), by="ada")

    await reader.refresh()
    assert reader.of("acme")["slow"].field == "Late"


async def test_a_number_that_was_taken_while_a_rule_was_checked_is_not_taken_twice(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    for name in ("slow", "busy"):
        await desk.put_rule("acme", a_rule(name), by="ada")

    async def others() -> None:
        await desk.put_rule("acme", a_rule("busy", dids=["442079460000"]), by="bob")
        await desk.put_rule("acme", a_rule("busy", dids=["442079460000"], field="F"), by="bob")

    slow = interrupted(store, clock, others)
    with pytest.raises(ContractError, match="is already in rule busy"):
        await slow.put_rule("acme", a_rule("slow", dids=["442079460000"]), by="ada")


async def test_changes_of_another_tenant_do_not_hold_up_a_rule(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    """However many there are while it is checked, it is checked once."""
    await desk.put_rule("acme", a_rule(), by="ada")

    async def others() -> None:
        for number in range(30):
            await desk.put_rule("globex", a_rule(field=f"F{number}"), by="bob")

    slow = interrupted(store, clock, others)
    checked: list[str] = []
    check = slow.stored.sites.get

    class Counted(Interrupted):
        async def get(self, key: str) -> SiteDocument:
            checked.append(key)
            return await check(key)

    async def nothing() -> None:
        return

    slow.stored = replace(slow.stored, sites=Counted(slow.stored.sites, nothing))
    await slow.put_rule("acme", a_rule(field="Rank"), by="ada")
    assert checked == ["acme"]


async def test_a_writer_that_dies_while_it_is_its_turn_does_not_hold_up_others_for_ever(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    await desk.put_rule("acme", a_rule(), by="ada")
    # It has taken its turn, and no more.
    assert await Turns(desk.stored.turns, clock).after(1) == 2

    with pytest.raises(Conflict, match="try again"):
        await desk.put_rule("acme", a_rule(field="Rank"), by="bob")
    await clock.advance(LONGEST)
    await desk.put_rule("acme", a_rule(field="Rank"), by="bob")

    book = another(store, clock).book
    await book.refresh()
    assert (book.of("acme")["main"].field, book.serial) == ("Rank", 3)


async def test_a_turn_in_which_nothing_could_be_written_is_given_back(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    """The rule was taken out by hand while it was checked."""
    await desk.put_rule("acme", a_rule(), by="ada")
    await desk.put_rule("acme", a_rule("other"), by="ada")
    seen = desk.book.numbers("acme")
    gone = RuleWrite.deletion(desk.book.of("acme")["main"], by="ada")

    class Stale(RuleBook):
        async def refresh(self) -> bool:
            return False

    stale = another(store, clock)
    stale.book = Stale(desk.stored.rules, clock, poll=SECOND)
    await RuleBook.refresh(stale.book)
    await desk.stored.rules.delete("acme/main")

    assert await stale.commit(gone, seen) is None
    assert (await desk.put_rule("acme", a_rule("other", field="Rank"), by="ada")).number == 2


async def test_who_says_what_he_saw_does_not_undo_the_change_of_another(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    await desk.put_rule("acme", a_rule(), by="ada", expected=0)
    await another(store, clock).put_rule("acme", a_rule(field="Rank"), by="bob", expected=1)

    with pytest.raises(Conflict, match="at version 2"):
        await desk.put_rule("acme", a_rule(field="Mine"), by="ada", expected=1)
    with pytest.raises(Conflict, match="at version 2"):
        await desk.put_rule("acme", a_rule(field="Mine"), by="ada", expected=0)
    with pytest.raises(Conflict, match="at version 2"):
        await desk.delete_rule("acme", "main", by="ada", expected=1)
    await desk.delete_rule("acme", "main", by="ada", expected=2)
    with pytest.raises(Conflict, match="is not there"):
        await desk.put_rule("acme", a_rule(), by="ada", expected=3)
    assert (await desk.put_rule("acme", a_rule(), by="ada", expected=0)).number == 4


# -- what does not fit --------------------------------------------------------------------------


async def test_a_rule_that_does_not_fit_is_refused_and_nothing_is_written(
    store: DocumentStore, desk: RuleDesk
) -> None:
    await desk.put_rule("acme", a_rule("a"), by="ada")
    for rule, word in (
        (a_rule(crm="hubspot"), "crm: there is no crm hubspot"),
        (a_rule(dids=["+4420794600" + "97", *a_rule("a").dids]), "is already in rule a"),
        (a_rule(rows=to("nosuch")), "row 1: there is no rule nosuch"),
        (a_rule(rows=to("main")), "row 1: rules lead in a circle: main → main"),
        (a_rule(default="rule:nosuch"), "default: there is no rule nosuch"),
        (a_rule(modules=["Planets"]), "modules: the template has no contact type Planets"),
        (a_rule(rows=[ROW, ROW]), "row 2: this row is never taken"),
    ):
        with pytest.raises(ContractError) as caught:
            await desk.put_rule("acme", rule, by="ada")
        assert word in caught.value.message
    with pytest.raises(NotFound, match="no tenant initech"):
        await desk.put_rule("initech", a_rule(), by="ada")
    assert await store.collection(RULES).count() == 1


async def test_a_rule_that_others_lead_to_is_not_deleted(desk: RuleDesk) -> None:
    await desk.put_rule("acme", a_rule("vip", dids=[]), by="ada")
    await desk.put_rule("acme", a_rule(rows=to("vip")), by="ada")

    with pytest.raises(Conflict, match="Rules lead to vip: main"):
        await desk.delete_rule("acme", "vip", by="ada")
    with pytest.raises(NotFound):
        await desk.delete_rule("globex", "vip", by="ada")


async def test_a_circle_over_several_rules_is_named_with_its_way(desk: RuleDesk) -> None:
    await desk.put_rule("acme", a_rule("c"), by="ada")
    await desk.put_rule("acme", a_rule("b", default="rule:c"), by="ada")
    await desk.put_rule("acme", a_rule("a", rows=to("b")), by="ada")

    with pytest.raises(ContractError, match="row 1: rules lead in a circle: c → a → b → c"):
        await desk.put_rule("acme", a_rule("c", rows=to("a")), by="ada")


async def test_a_rule_too_large_for_the_store_says_what_to_do(desk: RuleDesk) -> None:
    rows = [
        Row.model_validate({"operator": "=", "value": f"{n:0500d}", "destination": "queue:support"})
        for n in range(16_000)
    ]
    with pytest.raises(ContractError, match=r"8\.\d MiB as JSON, and a rule may have 8"):
        source_of(a_rule(rows=rows))
    largest = a_rule(rows=rows[:15_000])
    assert MOST_SOURCE_BYTES * 0.9 < len(source_of(largest)) < MOST_SOURCE_BYTES
    # As the rule and, after the next change, as its version.
    await desk.put_rule("acme", largest, by="ada")
    await desk.put_rule("acme", a_rule(), by="ada")
    assert len((await desk.version("acme", "main", 1))[1]) == len(source_of(largest))


async def test_a_secret_of_a_rule_keeps_its_seal_while_it_is_the_same(desk: RuleDesk) -> None:
    def custom(secret: str, **more: Any) -> RoutingRule:
        header = {"name": "X-Key", "value": BOX.seal(SecretStr(secret))}
        return a_rule(crm=None, custom={"url": "https://crm.example/f", "header": header}, **more)

    first = await desk.put_rule("acme", custom("hunter2"), by="ada")
    assert "hunter2" not in first.model_dump_json()
    assert (await desk.put_rule("acme", custom("hunter2"), by="ada")).number == 1
    assert (await desk.put_rule("acme", custom("hunter3"), by="ada")).number == 2


async def test_what_comes_back_is_sealed_with_the_key_that_is_used_now(
    store: DocumentStore, desk: RuleDesk, clock: ManualClock
) -> None:
    """Else it would be lost with the old key, although all was put again since."""
    old, new = new_key(), new_key()
    before = RuleDesk.at(store, secrets=SecretBox([old]), clock=clock)
    header = {"name": "X-Key", "value": before.secrets.seal(SecretStr("hunter2"))}
    rule = a_rule(crm=None, custom={"url": "https://crm.example/f", "header": header})
    await before.put_rule("acme", rule, by="ada")
    after = RuleDesk.at(store, secrets=SecretBox([new, old]), clock=clock)

    def opened(rule: RoutingRule) -> str:
        assert rule.custom is not None
        assert rule.custom.header is not None
        return SecretBox([new]).open(rule.custom.header.value).get_secret_value()

    # As it comes from the API, its secret as asterisks.
    assert opened((await after.put_rule("acme", rule, by="ada")).read()) == "hunter2"
    assert (await after.put_rule("acme", rule, by="ada")).number == 2
    await after.delete_rule("acme", "main", by="ada")
    assert opened((await after.roll_back("acme", "main", 1, by="ada")).read()) == "hunter2"
    await after.delete_rule("acme", "main", by="ada")
    lost = RuleDesk.at(store, secrets=SecretBox([new]), clock=clock)
    with pytest.raises(BadSetting, match="CALLMESH_SECRET_KEYS"):
        await lost.roll_back("acme", "main", 1, by="ada")


# -- the site under stored rules ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("crm", "rule main, crm: there is no crm zoho"),
        ("agents", "rule main, row 1: there is no agent 101"),
        ("hours", "rule main, variables: there are no hours shop"),
    ],
)
async def test_what_a_stored_rule_needs_is_not_taken_out_of_the_site(
    desk: RuleDesk, part: str, said: str
) -> None:
    rows = [{"when": {"of": "agent.101", "value": "free"}, "destination": "extension:101"}]
    rule = a_rule(rows=[*rows, ROW], variables={"CRM_OPEN": "hours.shop"})
    await desk.put_rule("acme", rule, by="ada")

    with pytest.raises(ContractError, match=said):
        await edit_site(desk, "acme", lambda site: site.model_copy(update={part: ()}), by="ada")
    await edit_site(desk, "globex", lambda site: site.model_copy(update={part: ()}), by="ada")
    await edit_site(desk, "acme", lambda site: site.model_copy(update={"title": "A"}), by="ada")
    assert (await desk.stored.sites.get("acme")).site.title == "A"

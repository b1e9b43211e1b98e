"""A tenant's entries as its operators see them: listed, counted, sent after all; over a store, and HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.journal.entries import EntryDocument
from services.journal.operating import Operating
from services.journal.settings import JournalSettings
from services.journal.store import CALLS, ENTRIES, CallLog, EntryBook
from services.journal.writer import EntryWriter, Tools
from shared.contracts.calls import CallEnded, EntryState
from shared.contracts.journal import EntryFilter, EntryTry
from shared.crm.finder import Finder
from shared.crm.users import USERS, UserBook
from shared.errors import ContractError, NotFound
from shared.http.auth import Scope
from shared.observe.metrics import Metrics
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import CRM, TENANT
from shared.site.journal import EntryPer
from shared.storage.port import Collection
from shared.testing.builders import NOON, a_call
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.journal_kit import HOUR, SECOND, Journal, a_journal_on
from tests.contract.scripted_crm import Asked, scripted

ALL = EntryFilter()


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def journal(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    url = lambda: str(request.getfixturevalue("mongo_url"))  # noqa: E731  asked for only by one
    async with a_journal_on(request.param, url) as found:
        yield found


@pytest.fixture
async def crm(journal: Journal) -> AsyncIterator[SandboxCrm]:
    crm = SandboxCrm(None, clock=journal.clock)
    await journal.apply(f"http://127.0.0.1:{await crm.start()}")
    yield crm
    await crm.stop()


def an_entry(number: int = 0, *, connection: str = CRM, **changes: Any) -> EntryDocument:
    """Of call ``c<number>``, wanted so many seconds after noon."""
    wanted_at = NOON + timedelta(seconds=number)
    made = EntryDocument.wanting(
        TENANT,
        f"c{number}",
        connection,
        agent=None,
        per=EntryPer.CALL,
        now=wanted_at,
        due_at=wanted_at,
    )
    return made.model_copy(update=changes)


async def put(journal: Journal, *entries: EntryDocument) -> None:
    kept: Collection[EntryDocument] = journal.store.collection(ENTRIES)
    await asyncio.gather(*(kept.put(entry) for entry in entries))


async def states_of(journal: Journal, *calls: str) -> list[EntryState]:
    return [(await journal.entry(call)).state for call in calls]


# -- looking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        (ALL, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (EntryFilter(states=(EntryState.DEAD,)), [0, 3, 6]),
        (EntryFilter(states=(EntryState.SENT, EntryState.DEAD)), [0, 1, 3, 4, 6, 7]),
        (EntryFilter(connection="zoho2"), [1, 3, 5, 7]),
        (EntryFilter(connection="zoho2", states=(EntryState.DEAD,)), [3]),
        (EntryFilter(since=NOON + 2 * SECOND, until=NOON + 5 * SECOND), [2, 3, 4]),
        (EntryFilter(call_ids=("c7", "c1", "nosuch")), [1, 7]),
        (EntryFilter(call_ids=("c6", "c1"), states=(EntryState.DEAD,)), [6]),
        (EntryFilter(keys=("c2/zoho", "c3/zoho2", "c3/zoho")), [2, 3]),
    ],
)
async def test_entries_are_read_oldest_first_page_by_page(
    journal: Journal, crm: SandboxCrm, which: EntryFilter, numbers: list[int]
) -> None:
    states = (EntryState.DEAD, EntryState.SENT, EntryState.FAILED)
    for number in range(9):
        connection = "zoho2" if number % 2 else CRM
        await put(journal, an_entry(number, connection=connection, state=states[number % 3]))
    await put(journal, an_entry(1, tenant="globex", key="c1/other", state=EntryState.DEAD))

    found: list[str] = []
    cursor, pages = None, 0
    while not pages or cursor:
        page = await journal.operating.read(TENANT, which, limit=2, cursor=cursor)
        assert len(page.entries) <= 2
        found += [entry.call_id for entry in page.entries]
        cursor, pages = page.next_cursor, pages + 1
    assert found == [f"c{number}" for number in numbers]
    assert pages == max(1, -(-len(numbers) // 2))


async def test_entries_of_one_moment_are_not_lost_at_the_border_of_a_page(
    journal: Journal, crm: SandboxCrm
) -> None:
    states = (EntryState.DEAD, EntryState.FAILED)
    entries = [an_entry(number, wanted_at=NOON, state=states[number % 2]) for number in range(10)]
    await put(journal, *entries)
    found: list[str] = []
    cursor = None
    while len(found) < 10:
        which = EntryFilter(states=states)
        page = await journal.operating.read(TENANT, which, limit=3, cursor=cursor)
        found += [entry.key for entry in page.entries]
        cursor = page.next_cursor
    assert found == sorted(entry.key for entry in entries)


async def test_a_cursor_of_elsewhere_is_refused(journal: Journal, crm: SandboxCrm) -> None:
    for which in (ALL, EntryFilter(call_ids=("c1",))):
        with pytest.raises(ContractError, match="cursor"):
            await journal.operating.read(TENANT, which, limit=2, cursor="x")


async def test_another_tenants_entry_does_not_exist(journal: Journal, crm: SandboxCrm) -> None:
    await put(journal, an_entry(state=EntryState.DEAD))
    assert not (await journal.operating.of_call("globex", "c0")).entries
    for which in (EntryFilter(keys=("c0/zoho",)), EntryFilter(call_ids=("c0",))):
        with pytest.raises(NotFound, match="c0"):
            await journal.operating.replay("globex", which, limit=10, cursor=None)
    done = await journal.operating.replay("globex", ALL, limit=10, cursor=None)
    assert (done.replayed, done.left_alone) == (0, 0)
    assert await states_of(journal, "c0") == [EntryState.DEAD]


async def test_a_summary_counts_and_says_what_the_oldest_waits_for(
    journal: Journal, crm: SandboxCrm
) -> None:
    await put(
        journal,
        *(an_entry(number, state=EntryState.SENT) for number in range(3)),
        an_entry(3, state=EntryState.RECONNECT, reason="connect it again"),
        an_entry(4, state=EntryState.DUE),
        an_entry(5, state=EntryState.DEAD),
        an_entry(6, connection="old", state=EntryState.DEAD),
        an_entry(7, connection="older", state=EntryState.DEAD),
        an_entry(8, connection="oldest", state=EntryState.SENT),
    )
    here, *gone = (await journal.operating.summary(TENANT)).connections

    assert here.connection == CRM
    assert here.counts == {
        EntryState.SENT: 3,
        EntryState.RECONNECT: 1,
        EntryState.DUE: 1,
        EntryState.DEAD: 1,
    }
    assert (here.oldest_waiting_at, here.reason) == (NOON + 3 * SECOND, "connect it again")
    assert [(one.connection, one.counts) for one in gone] == [
        ("old", {EntryState.DEAD: 1}),
        ("older", {EntryState.DEAD: 1}),
    ]
    assert not (await journal.operating.summary("globex")).connections


# -- sending after all -----------------------------------------------------------------------------


async def test_only_what_is_not_there_is_replayed(journal: Journal, crm: SandboxCrm) -> None:
    states = list(EntryState)
    await put(journal, *(an_entry(number, state=state) for number, state in enumerate(states)))
    done = await journal.operating.replay(TENANT, ALL, limit=100, cursor=None)
    assert (done.replayed, done.left_alone, done.next_cursor) == (4, 0, None)

    calls = tuple(f"c{number}" for number in range(len(states)))
    done = await journal.operating.replay(
        TENANT, EntryFilter(call_ids=calls), limit=100, cursor=None
    )
    assert (done.replayed, done.left_alone) == (5, 4)
    after = dict(zip(states, await states_of(journal, *calls), strict=True))
    untouched = (EntryState.SENDING, EntryState.SENT, EntryState.UPDATED, EntryState.NOT_WANTED)
    for state in states:
        assert after[state] is (state if state in untouched else EntryState.DUE)


async def test_what_may_be_there_is_not_sought_before_it_can_be_found(
    journal: Journal, crm: SandboxCrm
) -> None:
    now = journal.clock.now()
    tried = EntryTry(at=now - SECOND, state=EntryState.DEAD, reason="no answer")
    dead = an_entry(state=EntryState.DEAD, maybe_sent=True, tries=(tried,), due_at=None)
    await put(journal, dead)
    await journal.operating.replay(TENANT, ALL, limit=10, cursor=None)
    after = await journal.entry("c0")
    settle = timedelta(seconds=5)  # journal.find.settle of the template zoho
    assert (after.state, after.due_at) == (EntryState.MAYBE_SENT, now - SECOND + settle)


@pytest.mark.parametrize("step", [timedelta(0), HOUR])
async def test_a_thousand_are_replayed_in_steps_and_each_is_sent_once(
    journal: Journal, crm: SandboxCrm, step: timedelta
) -> None:
    for first in range(0, 1000, 100):
        await put(
            journal,
            *(
                an_entry(n, state=EntryState.DEAD, due_at=None, attempts=3)
                for n in range(first, first + 100)
            ),
        )
    operating = Operating(
        journal.entries, journal.site, journal.connections(), journal.clock, step=step
    )
    assert await operating.meant(TENANT, ALL) == 1000
    replayed, steps, cursor = 0, 0, None
    while not steps or cursor:
        done = await operating.replay(TENANT, ALL, limit=200, cursor=cursor)
        assert not done.left_alone
        replayed, steps, cursor = replayed + done.replayed, steps + 1, done.next_cursor
    assert (replayed, steps) == (1000, 5 if step else 50)
    assert (await operating.standing(TENANT, ALL, replayed_at=journal.clock.now())) == Counter(
        {EntryState.DUE: 1000}
    )
    # What is dead again meanwhile, and what was replayed before, are told apart.
    await journal.clock.advance(SECOND)
    again = await journal.entries.replay(await journal.entry("c7"), settle=SECOND)
    await journal.entries.move(again, state=EntryState.DEAD)
    standing = await operating.standing(TENANT, ALL, replayed_at=journal.clock.now())
    assert +standing == Counter({EntryState.DEAD: 1})


async def test_dead_entries_are_in_the_crm_once_after_a_replay(
    journal: Journal, crm: SandboxCrm
) -> None:
    calls = [f"c{number}" for number in range(30)]
    for call in calls:
        await journal.a_missed_call(call)
    crm.faults = Faults(fail_next=1_000_000, fail_status=503)
    async with journal.writing():
        for call in calls:
            await journal.until(EntryState.DEAD, step=timedelta(hours=1), call=call)
        crm.faults = Faults()
        cursor, first = None, True
        while first or cursor:
            done = await journal.operating.replay(TENANT, ALL, limit=7, cursor=cursor)
            cursor, first = done.next_cursor, False
        for call in calls:
            await journal.until(EntryState.SENT, call=call)
    assert len(crm.records("Calls")) == 30
    done = await journal.operating.replay(TENANT, ALL, limit=500, cursor=None)
    assert (done.replayed, done.left_alone) == (0, 0)


# -- over HTTP -------------------------------------------------------------------------------------

TOKEN = "a-token-that-nobody-may-see"
DESK: dict[str, Any] = {
    "credentials": [{"name": "token", "title": "Token"}],
    "auth": {"apply": [{"in": "header", "name": "X-Token", "value": "{{.token}}"}]},
    "journal": {
        "subject": "{{.Reference}}",
        "create": {"method": "POST", "url": "{{.url}}/calls", "json": {"subject": "{{.Subject}}"}},
        "entry_id": "id",
        "find": {
            "request": {"url": "{{.url}}/calls", "query": {"subject": "{{.Subject}}"}},
            "entry_id": "calls.0.id",
        },
    },
}


class Refusing:
    """A CRM that says all that it was told, and refuses until it does not."""

    def __init__(self) -> None:
        self.refuses = True
        self.subjects: list[str] = []

    def __call__(self, asked: Asked) -> Any:
        if asked.what == "POST /calls":
            if self.refuses:
                said = {"error": f"{asked.headers} {asked.query} {asked.body.decode()}"}
                return web.json_response(said, status=400)
            self.subjects.append(asked.json["subject"])
            return {"id": str(len(self.subjects))}
        if asked.what == "GET /calls":
            found = asked.query["subject"] in self.subjects
            return {"calls": [{"id": "1"}] if found else []}
        return {"people": []}


@asynccontextmanager
async def writing(api: CrmApi) -> AsyncIterator[None]:
    connections = api.connections()
    finder = Finder(connections, api.store, clock=api.clock, metrics=Metrics())
    writer = EntryWriter(
        Tools(
            calls=CallLog(api.store.collection(CALLS), api.clock, silent_after=HOUR),
            entries=EntryBook(api.store.collection(ENTRIES), api.clock),
            site=api.site,
            connections=connections,
            finder=finder,
            publisher=api.publisher("journal"),
            users=UserBook(api.store.collection(USERS), api.clock),
            clock=api.clock,
            metrics=Metrics(),
            settings=JournalSettings(),
            recording_links=api.links(),
        )
    )
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await finder.close()
        await connections.close()


@pytest.fixture
async def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
async def api(tmp_path: Path, refusing: Refusing) -> AsyncIterator[CrmApi]:
    async with scripted(refusing) as shop, opened(tmp_path) as found:
        found.template("shop", **DESK)
        await found.apply(
            {
                "name": "shop",
                "template": "shop",
                "parameters": {"url": shop.url},
                "credentials": {"token": TOKEN},
                "journal": {"after": "0s"},
            }
        )
        async with writing(found):
            yield found


async def until_state(api: CrmApi, state: str, call: str = "c1") -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def is_so() -> bool:
        status, answer = await api.send("GET", f"/v1/calls/{call}/entries")
        entries = answer["entries"] if status == 200 else []
        found.clear()
        found.update(entries[0] if entries else {})
        return found.get("state") == state

    await eventually(is_so)
    return found


async def a_call_that_ended(api: CrmApi, call: str = "c1") -> None:
    publisher = api.publisher("ingest")
    for event in (a_call(call_id=call), CallEnded(call_id=call, pbx="main")):
        await publisher.publish(event, tenant="acme", at=api.clock.now())


async def test_a_dead_entry_is_shown_without_secrets_and_sent_after_all(
    api: CrmApi, refusing: Refusing
) -> None:
    await a_call_that_ended(api)
    dead = await until_state(api, "dead")

    assert (dead["key"], dead["attempts"]) == ("c1/shop", 1)
    assert "400" in dead["reason"]
    assert dead["tries"][-1]["reason"] == dead["reason"]
    exchange = dead["exchange"]
    assert (exchange["method"], exchange["status"]) == ("POST", 400)
    assert exchange["url"].endswith("/calls")
    assert "x-token" in exchange["answer"].lower()
    assert TOKEN not in str(dead)
    _, listed = await api.send("GET", "/v1/journal/entries?state=dead&connection=shop")
    assert [entry["key"] for entry in listed["entries"]] == ["c1/shop"]
    assert "exchange" not in listed["entries"][0]
    for query, keys in (
        ("ids=c1/shop,c9/shop", ["c1/shop"]),
        ("call_ids=c9,c1&fields=key", ["c1/shop"]),
        ("call_ids=c9", []),
        ("ids=", []),
    ):
        _, listed = await api.send("GET", f"/v1/journal/entries?{query}")
        assert [entry["key"] for entry in listed["entries"]] == keys
    _, summary = await api.send("GET", "/v1/journal/summary")
    assert summary["connections"] == [{"connection": "shop", "counts": {"dead": 1}}]

    refusing.refuses = False
    status, done = await api.send("POST", "/v1/journal/replay", json={"call_ids": ["c1"]})
    assert (status, done) == (200, {"replayed": 1, "left_alone": 0})
    sent = await until_state(api, "sent")
    assert sent["entry_id"] == "1"
    assert "exchange" not in sent
    assert len(refusing.subjects) == 1
    _, done = await api.send("POST", "/v1/journal/replay", json={"all": True})
    assert done == {"replayed": 0, "left_alone": 0}
    notes = [(action, subject) for _, action, subject in await api.audited()]
    assert notes == [("replay_entries", "entries c1"), ("replay_entries", "all entries")]


async def test_calls_are_reconciled_over_http(
    api: CrmApi, refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.journal.reconciling._ON_ITS_WAY", HOUR)
    await a_call_that_ended(api)
    await until_state(api, "dead")
    now = api.clock.now()
    body = {"since": (now - HOUR).isoformat(), "until": (now + HOUR).isoformat()}

    _, found = await api.send("POST", "/v1/journal/reconcile", json=body)
    # It ended a moment ago: its entries may be on their way.
    assert (found["calls"], found["findings"]) == (1, [])
    assert await api.audited() == [("k0", "reconcile_calls", "")], "asked for, and nothing done"
    status, _ = await api.send("POST", "/v1/journal/reconcile", json={**body, "repair": True})
    assert status == 200
    _, (_, action, subject) = await api.audited()
    assert action == "reconcile_calls"
    assert "calls from" in subject


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("replay", {}, 422, "all: true"),
        ("replay", {"all": True, "connection": "shop"}, 422, "all: true"),
        ("replay", {"state": "dead"}, 422, "state"),
        ("replay", {"states": ["deaf"]}, 422, "states"),
        ("replay", {"call_ids": ["nosuch"]}, 404, "nosuch"),
        ("replay", {"all": True, "cursor": "x"}, 422, "cursor"),
        ("reconcile", {"since": "2026-01-01T00:00:00Z"}, 422, "until"),
        (
            "reconcile",
            {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
            422,
            "until",
        ),
        (
            "reconcile",
            {
                "since": "2026-01-01T00:00:00Z",
                "until": "2026-01-02T00:00:00Z",
                "connection": "nosuch",
            },
            404,
            "nosuch",
        ),
    ],
)
async def test_a_request_that_cannot_be_says_what_to_change(
    api: CrmApi, path: str, body: dict[str, Any], status: int, word: str
) -> None:
    found, problem = await api.send("POST", f"/v1/journal/{path}", json=body)
    assert found == status, problem
    assert word in str(problem)


async def test_a_key_without_the_scope_is_refused(api: CrmApi) -> None:
    await a_call_that_ended(api)
    await until_state(api, "dead")
    reader = await api.a_key(Scope.CALLS_READ, Scope.CALLS_WRITE)
    watcher = await api.a_key(Scope.JOURNAL_READ)
    for path in ("/v1/journal/entries", "/v1/journal/summary", "/v1/calls/c1/entries"):
        assert (await api.send("GET", path, key=reader))[0] == 403
        assert (await api.send("GET", path, key=watcher))[0] == 200
    for path in ("/v1/journal/replay", "/v1/journal/reconcile"):
        assert (await api.send("POST", path, key=watcher, json={"all": True}))[0] == 403
    assert (await api.send("GET", "/v1/calls/nosuch/entries", key=watcher))[0] == 404

"""The finder and the engine under it, against the sandbox CRM on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.clock import Clock, ManualClock, SystemClock
from shared.crm.connections import Account, CrmConnections
from shared.crm.finder import Finder, Question, Source
from shared.crm.glance import Glance
from shared.errors import (
    BadSetting,
    NeedsReconnect,
    OutOfTime,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Faults, SandboxCrm
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient
from shared.testing.waiting import eventually

FRESH, UNKNOWN = timedelta(minutes=10), timedelta(minutes=1)
SOON = timedelta(seconds=5)
JANE, NOBODY = "+447700900123", "+447700900999"
#: In the CRM in a form that the first request asks for.
BOB = "+447700900167"
MINUTE = timedelta(minutes=1)


class World:
    """One store, one CRM; replicas of a finder over them."""

    def __init__(self, db: SqliteFile, crm: SandboxCrm, url: str, clock: Clock) -> None:
        self.db = db
        self.crm = crm
        self.url = url
        self.clock = clock
        self.box = SecretBox([new_key()])
        self.store: DocumentStore = SqliteStore(db, clock)
        self.http = HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X")))
        self.finders: list[Finder] = []
        self.glance: Glance = Patient(clock)

    def finder(self) -> Finder:
        """Another replica: the same store, a memory of its own."""
        made = Finder(self.connections(), self.store, clock=self.clock, metrics=Metrics())
        self.finders.append(made)
        return made

    def connections(self) -> CrmConnections:
        return CrmConnections(
            self.store,
            http=self.http,
            secrets=self.box,
            clock=self.clock,
            metrics=Metrics(),
            glance=self.glance,
        )

    def account(self, **credentials: str) -> Account:
        secrets = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
            **credentials,
        }
        return Account(
            tenant="acme",
            name="zoho",
            template="zoho",
            region="GB",
            parameters=(
                ("accounts_url", self.url),
                ("api_url", self.url),
                ("web_url", self.url),
            ),
            credentials=tuple((k, self.box.seal(SecretStr(v))) for k, v in secrets.items()),
            phone_formats=(),
        )

    def question(self, number: str = JANE, *, modules: tuple[str, ...] = ("Contacts",)) -> Question:
        return Question(
            account=self.known,
            number=parse(number, "GB"),
            modules=modules,
            fresh=FRESH,
            unknown=UNKNOWN,
        )

    @property
    def known(self) -> Account:
        if not hasattr(self, "_known"):
            self._known = self.account()
        return self._known

    @property
    def searches(self) -> int:
        return sum("/search?" in asked.target for asked in self.crm.asked)


@pytest.fixture
async def world(clock: ManualClock, tmp_path: Path) -> AsyncIterator[World]:
    async for found in opened(clock, tmp_path):
        yield found


@pytest.fixture
async def real_time(tmp_path: Path) -> AsyncIterator[World]:
    async for found in opened(SystemClock(), tmp_path):
        yield found


async def opened(clock: Clock, folder: Path) -> AsyncIterator[World]:
    crm = SandboxCrm(folder / "crm.db", clock=clock)
    db = SqliteFile(None)
    await db.open()
    found = World(db, crm, f"http://127.0.0.1:{await crm.start()}", clock)
    async with found.http:
        yield found
        for finder in found.finders:
            await finder.close()
    await crm.stop()
    await db.close()


async def test_a_contact_is_found_in_any_spelling_of_its_number(world: World) -> None:
    finder = world.finder()
    for number, name in (
        ("447700900123", "Jane Doe"),
        ("07700 900145", "Grace Gold"),
        ("+447700900146", "Grace Gold"),
        ("+447700900168", "Mia Missed"),
    ):
        found = await finder.find(world.question(number), within=SOON)
        assert [card.display_name for card in found.candidates] == [name], number


async def test_a_card_holds_what_a_screen_shows(world: World) -> None:
    (card,) = (await world.finder().find(world.question(), within=SOON)).candidates
    assert card.company == "ACME Ltd"
    assert card.email == "jane@acme.example"
    assert card.owner_id == "829914000000121001"
    assert card.phones == ("+44 7700 900123",)
    # The organisation's number is not set: a wrong link is worse than none.
    assert card.page_url is None


@pytest.mark.parametrize("stored", ["07911123456", "7911123456", "07911 123456"])
async def test_a_number_that_was_typed_as_it_is_dialled_at_home_is_found(
    world: World, stored: str
) -> None:
    world.crm.put("Contacts", {"id": "1", "Full_Name": "Home", "Mobile": stored})
    found = await world.finder().find(world.question("447911123456"), within=SOON)
    assert [card.display_name for card in found.candidates] == ["Home"]


async def test_a_module_that_the_template_does_not_know_is_not_taken_for_all(world: World) -> None:
    with pytest.raises(Rejected, match="no contact type Contcts"):
        await world.finder().find(world.question(modules=("Contcts", "Leads")), within=SOON)
    assert not world.crm.asked


async def test_all_users_are_read_however_many_pages_they_fill(world: World) -> None:
    users = [{"id": str(n), "full_name": f"Agent {n}"} for n in range(450)]
    world.crm.users = users
    found = await world.connections().connector(world.known).list_users(within=SOON)
    assert [user.user_id for user in found] == [user["id"] for user in users]


async def test_modules_answer_in_their_order(world: World) -> None:
    for record in (
        ("Leads", {"id": "1", "Full_Name": "As lead", "Phone": NOBODY}),
        ("Contacts", {"id": "2", "Full_Name": "As contact", "Phone": NOBODY}),
    ):
        world.crm.put(*record)
    finder = world.finder()
    for modules in (("Leads", "Contacts"), ("Contacts", "Leads")):
        found = await finder.find(world.question(NOBODY, modules=modules), within=SOON)
        assert [card.module for card in found.candidates] == list(modules)


async def test_a_hit_that_shows_other_numbers_is_dropped(world: World) -> None:
    """The CRM's search says yes, the record's own numbers say no."""
    world.crm.put("Contacts", {"id": "1", "Full_Name": "X", "Phone": "447700900999"})
    finder = world.finder()
    assert (await finder.find(world.question(NOBODY), within=SOON)).candidates
    world.crm.put("Contacts", {"id": "2", "Full_Name": "Y", "Phone": "770-090-0998"})
    found = await finder.find(world.question("+447700900998"), within=SOON)
    # 770-090-0998 is no number of this region: it is not the same one.
    assert found.candidates == ()


async def test_a_found_contact_is_believed_for_its_time(world: World, clock: ManualClock) -> None:
    finder = world.finder()
    assert (await finder.find(world.question(), within=SOON)).source is Source.CRM
    asked = world.searches
    await clock.advance(FRESH - timedelta(seconds=1))
    assert (await finder.find(world.question(), within=SOON)).source is Source.PROCESS
    assert world.searches == asked
    await clock.advance(timedelta(seconds=1))
    assert (await finder.find(world.question(), within=SOON)).source is Source.CRM


async def test_that_nobody_has_the_number_is_believed_for_less_long(
    world: World, clock: ManualClock
) -> None:
    finder = world.finder()
    assert (await finder.find(world.question(NOBODY), within=SOON)).candidates == ()
    asked = world.searches
    await clock.advance(UNKNOWN - timedelta(seconds=1))
    assert (await finder.find(world.question(NOBODY), within=SOON)).source is Source.PROCESS
    assert world.searches == asked
    await clock.advance(timedelta(seconds=1))
    world.crm.put("Contacts", {"id": "1", "Full_Name": "New", "Phone": NOBODY})
    assert (await finder.find(world.question(NOBODY), within=SOON)).candidates


async def test_replicas_share_their_answers_through_the_store(world: World) -> None:
    await world.finder().find(world.question(), within=SOON)
    asked = world.searches
    assert (await world.finder().find(world.question(), within=SOON)).source is Source.STORE
    assert world.searches == asked


async def test_many_calls_from_one_number_are_one_request(world: World) -> None:
    finder = world.finder()
    found = await asyncio.gather(
        *(finder.find(world.question(BOB), within=SOON) for _ in range(20))
    )
    assert {answer.candidates[0].display_name for answer in found} == {"Bob Busy"}
    assert world.searches == 1


async def test_what_changed_in_the_crm_is_asked_again(world: World) -> None:
    finder = world.finder()
    await finder.find(world.question(), within=SOON)
    world.crm.put("Contacts", {"id": "829914000000600001", "Full_Name": "J", "Phone": JANE})
    await finder.forget("acme", connection="zoho", numbers=[JANE])
    found = await finder.find(world.question(), within=SOON)
    assert found.source is Source.CRM
    assert found.candidates[0].display_name == "J"


async def test_an_answer_from_before_a_change_is_given_to_who_asked_and_to_nobody_else(
    world: World, clock: ManualClock
) -> None:
    finder = world.finder()
    await finder.find(world.question(JANE), within=SOON)  # the token is fetched
    world.crm.faults = Faults(latency_ms=1000)
    early = asyncio.create_task(finder.find(world.question(NOBODY), within=SOON))
    await eventually(lambda: clock.sleepers == 1)
    world.crm.faults = Faults()
    await clock.advance(timedelta(milliseconds=1))
    await finder.forget("acme", connection="zoho", numbers=[NOBODY])
    late = await finder.find(world.question(NOBODY), within=SOON)
    assert (late.source, early.done()) == (Source.CRM, False)
    await clock.advance(timedelta(seconds=1))
    await finder.forget("acme", connection="zoho", numbers=[NOBODY])
    assert (await early).candidates == ()
    world.crm.put("Contacts", {"id": "1", "Full_Name": "New", "Phone": NOBODY})
    for replica in (finder, world.finder()):
        found = await replica.find(world.question(NOBODY), within=SOON)
        assert [card.display_name for card in found.candidates] == ["New"]


async def test_a_replica_that_was_told_of_a_change_does_not_believe_the_stores_older_answer(
    world: World, clock: ManualClock
) -> None:
    """``lookup`` clears the store, and may be slower than the call."""
    await world.finder().find(world.question(), within=SOON)
    await clock.advance(timedelta(milliseconds=1))
    finder = world.finder()
    finder.forget_here("acme", connection="zoho", numbers=[JANE])
    assert (await finder.find(world.question(), within=SOON)).source is Source.CRM
    assert (await finder.find(world.question(), within=SOON)).source is Source.PROCESS


async def test_another_tenants_answer_is_never_given(world: World) -> None:
    finder = world.finder()
    await finder.find(world.question(), within=SOON)
    other = Account(
        **{
            **{n: getattr(world.known, n) for n in Account.__dataclass_fields__},
            "tenant": "globex",
        }
    )
    question = Question(
        account=other, number=parse(JANE, "GB"), modules=("Contacts",), fresh=FRESH, unknown=UNKNOWN
    )
    assert (await finder.find(question, within=SOON)).source is Source.CRM
    await finder.forget("globex", connection="zoho", numbers=[JANE])
    assert (await finder.find(world.question(), within=SOON)).source is Source.PROCESS


async def test_an_answer_that_comes_too_late_is_there_for_the_next_caller(
    real_time: World,
) -> None:
    world, finder = real_time, real_time.finder()
    await finder.find(world.question(NOBODY), within=SOON)  # the token is fetched
    world.crm.faults = Faults(latency_ms=400)
    before = world.searches
    with pytest.raises(OutOfTime, match=r"within 0\.1 s"):
        await finder.find(world.question(BOB), within=timedelta(seconds=0.1))

    async def known() -> bool:
        try:
            found = await finder.find(world.question(BOB), within=timedelta(seconds=0.05))
        except OutOfTime:
            return False
        return found.source is Source.PROCESS

    await eventually(known)
    # However often she was asked for meanwhile.
    assert world.searches == before + 1


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(fail_next=9, fail_status=503), Unavailable),
        (Faults(fail_next=9, fail_status=429, retry_after_s=7), Throttled),
        (Faults(fail_next=9, fail_status=400), Rejected),
        (Faults(grant_revoked=True), NeedsReconnect),
    ],
)
async def test_could_not_ask_is_an_error_and_is_never_kept(
    world: World, clock: ManualClock, faults: Faults, error: type[Exception]
) -> None:
    finder = world.finder()
    world.crm.faults = faults
    with pytest.raises(error):
        await finder.find(world.question(), within=SOON)
    world.crm.faults = Faults()
    await clock.advance(MINUTE)
    assert (await finder.find(world.question(), within=SOON)).candidates


async def test_a_crm_that_is_down_may_say_for_how_long(world: World) -> None:
    world.crm.faults = Faults(fail_next=9, fail_status=503, retry_after_s=7)
    with pytest.raises(Unavailable) as told:
        await world.finder().find(world.question(), within=SOON)
    assert told.value.retry_after == timedelta(seconds=7)


async def test_a_crm_that_asks_for_a_pause_gets_it(world: World, clock: ManualClock) -> None:
    finder = world.finder()
    world.crm.faults = Faults(fail_next=1, fail_status=429, retry_after_s=30)
    with pytest.raises(Throttled) as first:
        await finder.find(world.question(), within=SOON)
    assert first.value.retry_after == timedelta(seconds=30)
    asked = len(world.crm.asked)
    with pytest.raises(Throttled) as second:
        await finder.find(world.question(NOBODY), within=SOON)
    assert second.value.retry_after == timedelta(seconds=30)
    assert len(world.crm.asked) == asked
    await clock.advance(timedelta(seconds=30))
    assert (await finder.find(world.question(), within=SOON)).candidates


async def test_a_refused_token_is_replaced_once(world: World, clock: ManualClock) -> None:
    finder = world.finder()
    await finder.find(world.question(NOBODY), within=SOON)
    await clock.advance(MINUTE)
    world.crm.forget_tokens()
    assert (await finder.find(world.question(), within=SOON)).candidates
    assert world.crm.asked_for_tokens == 2


async def test_replicas_fetch_one_token_between_them(real_time: World) -> None:
    """Zoho gives ten in ten minutes."""
    world = real_time
    finders = [world.finder() for _ in range(15)]
    numbers = [f"+4477009002{n:02}" for n in range(15)]
    await asyncio.gather(
        *(f.find(world.question(n), within=SOON) for f, n in zip(finders, numbers, strict=True))
    )
    assert world.crm.asked_for_tokens == 1


async def test_a_token_is_fetched_ahead_of_its_end(world: World, clock: ManualClock) -> None:
    finder = world.finder()
    await finder.find(world.question(), within=SOON)
    await clock.advance(timedelta(minutes=59, seconds=1))
    await finder.find(world.question(), within=SOON)
    assert world.crm.asked_for_tokens == 2


async def test_a_caller_is_found_in_time_by_a_process_that_starts_while_the_store_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As short as it is: what the driver still waits for holds up the end.
    monkeypatch.setattr("shared.storage.mongo._COMMAND_WITHIN", timedelta(seconds=2.5))
    away = MongoStore(SecretStr("mongodb://127.0.0.1:1"), database="away", clock=world.clock)
    world.store = away
    world.glance = Glance(world.clock)
    finder = world.finder()
    with capture_logs() as logs:
        assert (await finder.find(world.question(), within=MINUTE)).candidates
        assert (await finder.find(world.question(BOB), within=MINUTE)).candidates
    # Not as long as its driver would: that takes all of a ringing call's time.
    reasons = [one["error"] for one in logs if one["event"] == "store_left_alone"]
    assert reasons == ["no answer in time"]
    assert world.crm.asked_for_tokens == 1
    await away.close()


async def test_a_refused_grant_is_left_in_peace_by_all_replicas_longer_each_time(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(grant_revoked=True)
    numbers = [f"+4477009002{n:02}" for n in range(20)]
    for asked, minutes in enumerate((1, 2, 4, 8, 15, 15), start=1):
        for finder in (world.finder(), world.finder()):
            errors = await asyncio.gather(
                *(finder.find(world.question(n), within=SOON) for n in numbers),
                return_exceptions=True,
            )
            for error in errors:
                assert isinstance(error, NeedsReconnect)
                assert error.retry_after == timedelta(minutes=minutes)
        assert world.crm.asked_for_tokens == asked
        await clock.advance(timedelta(minutes=minutes))
    world.crm.faults = Faults()
    assert (await world.finder().find(world.question(), within=SOON)).candidates


async def test_a_grant_that_was_mended_is_used_at_once(world: World) -> None:
    finder = world.finder()
    world._known = world.account(refresh_token="lost")
    with pytest.raises(NeedsReconnect, match=r"invalid_code.*connect it again"):
        await finder.find(world.question(), within=SOON)
    world._known = world.account()
    assert (await finder.find(world.question(), within=SOON)).candidates


async def test_a_crm_that_gave_too_many_tokens_is_not_told_to_be_disconnected(
    world: World, clock: ManualClock
) -> None:
    finder = world.finder()
    mine = world.known
    for n in range(10):
        world._known = replace(mine, tenant=f"other{n}")
        await finder.find(world.question(), within=SOON)
    world._known = mine
    for minutes in (1, 2, 4, 8):
        with pytest.raises(Throttled, match="Access Denied") as told:
            await finder.find(world.question(), within=SOON)
        assert told.value.retry_after == timedelta(minutes=minutes)
        asked = world.crm.asked_for_tokens
        with pytest.raises(Throttled):
            await finder.find(world.question(BOB), within=SOON)
        assert world.crm.asked_for_tokens == asked
        await clock.advance(timedelta(minutes=minutes))
    assert (await finder.find(world.question(), within=SOON)).candidates


async def test_a_module_without_a_right_costs_neither_the_other_modules_nor_the_tokens(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(no_scope=["Leads"])
    finder = world.finder()
    for _ in range(30):
        found = await finder.find(world.question(modules=("Contacts", "Leads")), within=SOON)
        assert [card.display_name for card in found.candidates] == ["Jane Doe"]
        assert found.refused[0].startswith("Leads: ")
        with pytest.raises(NeedsReconnect, match="every scope"):
            await finder.find(world.question(modules=("Leads",)), within=SOON)
        await clock.advance(MINUTE)
        await finder.forget("acme", connection="zoho", numbers=[JANE])
    # After 0, 1, 3, 7 and 15 minutes.
    assert world.crm.asked_for_tokens == 5


async def test_a_token_that_no_key_opens_any_more_is_fetched_anew(world: World) -> None:
    await world.finder().find(world.question(), within=SOON)
    world.box = SecretBox([new_key()])
    world._known = world.account()
    assert (await world.finder().find(world.question(BOB), within=SOON)).candidates
    assert world.crm.asked_for_tokens == 2


async def test_a_token_lies_sealed_in_the_store(world: World) -> None:
    await world.finder().find(world.question(), within=SOON)
    rows = await world.db.read(lambda db: db.execute("SELECT body FROM doc_crm_tokens").fetchall())
    assert "sealed:" in rows[0][0]
    assert "1000." not in rows[0][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {"template": "nope"}, "no template nope"),
        (lambda w: {"parameters": (("colour", "red"),)}, "no parameter colour"),
        (lambda w: {"parameters": (("data_centre", "mars"),)}, "data_centre is one of"),
        (
            lambda w: {"credentials": (("client_id", "sealed:xx"),)},
            "none of the keys opens",
        ),
    ],
)
async def test_a_connection_that_does_not_fit_says_why(
    world: World, change: Callable[[World], dict[str, object]], words: str
) -> None:
    fields = {n: getattr(world.known, n) for n in Account.__dataclass_fields__}
    account = Account(**{**fields, **change(world)})
    question = Question(account=account, number=parse(JANE, "GB"), fresh=FRESH, unknown=UNKNOWN)
    with pytest.raises(Exception, match=words):
        await world.finder().find(question, within=SOON)


async def test_an_address_inside_the_operators_network_is_not_called(world: World) -> None:
    guarded = HttpClient(AddressGuard())
    connections = CrmConnections(
        world.store, http=guarded, secrets=world.box, clock=world.clock, metrics=Metrics()
    )
    finder = Finder(connections, world.store, clock=world.clock, metrics=Metrics())
    world.url = world.url.replace("http:", "https:")
    async with guarded:
        with pytest.raises(Rejected, match="CALLMESH_NET_ALLOW"):
            await finder.find(world.question(), within=SOON)
    assert not world.crm.asked


def test_a_setting_that_is_no_network_is_named() -> None:
    with pytest.raises(BadSetting, match="CALLMESH_NET_ALLOW"):
        networks("10.0.0.0/8, home", setting="CALLMESH_NET_ALLOW")

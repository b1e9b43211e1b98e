from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.clock import Clock, ManualClock
from shared.errors import BadSetting, Conflict, Unavailable
from shared.moments import to_instant
from shared.secrets import SecretBox, new_key
from shared.site.apply import Plan, carry_out, plan
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import WholeSite, read_site_file
from shared.site.models import Site
from shared.site.parts import Sealing
from shared.site.pbx import AsteriskPbx
from shared.site.ruleedit import RuleDesk
from shared.site.rules.subjects import Subject
from shared.sqlite import SqliteFile
from shared.storage.port import Collection
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

BOX = SecretBox([new_key()])
SECOND = timedelta(seconds=1)

SITE = """\
tenants:
  - tenant: acme
    title: ACME Ltd
    region: GB
    pbx:
      - name: main
        kind: asterisk
        host: pbx.acme.example
        username: callmesh
        secret: hunter2
        trunks: [trunk]
      - {name: door, kind: generic}
    crm:
      - name: zoho
        template: zoho
        credentials: {client_id: a, client_secret: b, refresh_token: c}
    agents:
      - {extension: "101", name: Anna Agent, users: {zoho: "1"}}
      - {extension: "102", name: Ben Agent}
    rules:
      - name: by-tier
        dids: ["442079460000"]
        crm: zoho
        field: Tier
        rows: [{operator: "=", value: GOLD, destination: "queue:support"}]
        default: extension:102
"""
DOOR = "      - {name: door, kind: generic}\n"
BEN = '      - {extension: "102", name: Ben Agent}\n'
EMPTY = "tenants:\n  - tenant: acme\n"


@pytest.fixture
async def db() -> AsyncIterator[SqliteFile]:
    file = SqliteFile(None)
    await file.open()
    yield file
    await file.close()


@pytest.fixture
def sites(db: SqliteFile, clock: ManualClock) -> Collection[SiteDocument]:
    return SqliteStore(db, clock).collection(SITES)


@pytest.fixture
def desk(db: SqliteFile, clock: ManualClock) -> RuleDesk:
    return RuleDesk.at(SqliteStore(db, clock), secrets=BOX, clock=clock)


@pytest.fixture
def book(sites: Collection[SiteDocument], clock: ManualClock) -> SiteBook:
    return SiteBook(sites, clock, poll=SECOND)


def read(text: str, box: SecretBox = BOX) -> tuple[WholeSite, ...]:
    sealing = Sealing(box=box, environment={}, folder=Path())
    return read_site_file(text, source="site.yaml", sealing=sealing)


async def planned(
    text: str,
    desk: RuleDesk,
    *,
    prune: bool = False,
    box: SecretBox = BOX,
    clock: Clock | None = None,
) -> Plan:
    as_wanted = RuleDesk(
        desk.stored,
        desk.book,
        secrets=box,
        clock=clock or desk.clock,
        templates=desk.templates,
    )
    return await plan(read(text, box), as_wanted, by="ada", prune=prune)


async def applied(
    text: str,
    desk: RuleDesk,
    *,
    prune: bool = False,
    box: SecretBox = BOX,
    clock: Clock | None = None,
) -> list[str]:
    wanted = await planned(text, desk, prune=prune, box=box, clock=clock)
    if clock is not None:
        desk = RuleDesk(desk.stored, desk.book, secrets=box, clock=clock, templates=desk.templates)
    await carry_out(wanted, desk)
    return [str(change) for change in wanted.changes]


def tenants(*names: str, title: str = "") -> str:
    """A file of tenants with nothing but a title."""
    lines = [f"  - {{tenant: {name}, title: {title or name}}}" for name in names]
    return "\n".join(["tenants:", *lines])


# -- plan ---------------------------------------------------------------------------------------


async def test_a_new_tenant_is_new_with_all_it_has(desk: RuleDesk) -> None:
    assert await applied(SITE, desk) == [
        "+ acme: tenant ACME Ltd",
        "+ acme: pbx main",
        "+ acme: pbx door",
        "+ acme: crm zoho",
        "+ acme: agents 101",
        "+ acme: agents 102",
        "+ acme: rules by-tier",
    ]


async def test_what_was_applied_is_stored_with_who_and_when(
    desk: RuleDesk, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, desk)

    document = await sites.get("acme")
    assert (document.tenant, document.version, document.changed_by) == ("acme", 0, "ada")
    assert document.changed_at == to_instant(clock.now())
    assert document.site.agents == read(SITE)[0].agents
    rule = desk.book.of("acme")["by-tier"]
    assert (rule.number, rule.what, rule.changed_by) == (1, "created", "ada")
    assert rule.read() == read(SITE)[0].rules[0]


async def test_the_second_time_there_is_nothing_to_change(desk: RuleDesk) -> None:
    """Also although every secret of the file is sealed anew, into another text."""
    await applied(SITE, desk)

    again = await planned(SITE, desk)

    assert (again.changes, again.documents) == ([], [])


async def test_a_plan_writes_nothing(desk: RuleDesk, sites: Collection[SiteDocument]) -> None:
    await planned(SITE, desk)

    assert await sites.count() == 0


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        pytest.param("title: ACME Ltd", "title: ACME", "~ acme: title", id="title"),
        pytest.param("    title: ACME Ltd\n", "", "~ acme: title", id="no title"),
        pytest.param("region: GB", "region: DE", "~ acme: region", id="region"),
        pytest.param(
            "username: callmesh", "username: mesh", "~ acme: pbx main: username", id="one field"
        ),
        pytest.param(
            "host: pbx.acme.example",
            "host: pbx\n        port: 5039",
            "~ acme: pbx main: host, port",
            id="two fields",
        ),
        pytest.param("secret: hunter2", "secret: new", "~ acme: pbx main: secret", id="a secret"),
        pytest.param(
            "client_secret: b", "client_secret: B", "~ acme: crm zoho: credentials", id="credential"
        ),
        pytest.param(
            "template: zoho\n",
            "template: zoho\n        journal: {after: 5s}\n",
            "~ acme: crm zoho: journal",
            id="deeper",
        ),
        pytest.param("name: Ben Agent", "name: Bo", "~ acme: agents 102: name", id="an agent"),
        pytest.param(
            "value: GOLD", "value: SILVER", "~ acme: rules by-tier: rows (1 changed)", id="a row"
        ),
        pytest.param(
            BEN, BEN + '      - {extension: "103"}\n', "+ acme: agents 103", id="one more"
        ),
        pytest.param(DOOR, "", "= acme: pbx door", id="one less"),
    ],
)
async def test_what_changed_is_named(desk: RuleDesk, old: str, new: str, change: str) -> None:
    assert SITE.count(old) == 1
    await applied(SITE, desk)

    assert await applied(SITE.replace(old, new), desk) == [change]


async def test_a_pbx_that_became_another_kind_is_changed(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied("tenants: [{tenant: acme, pbx: [{name: main, kind: generic}]}]", desk)

    await applied(SITE, desk)

    assert isinstance((await sites.get("acme")).site.pbx[0], AsteriskPbx)


async def test_a_changed_tenant_has_the_next_version(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(tenants("acme"), desk)
    await applied(tenants("acme", title="other"), desk)

    document = await sites.get("acme")
    assert (document.version, document.site.title) == (1, "other")


async def test_a_secret_that_is_the_same_keeps_its_seal(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(SITE, desk)
    before = (await sites.get("acme")).site.crm[0].credentials

    await applied(SITE.replace("client_secret: b", "client_secret: B"), desk)

    after = (await sites.get("acme")).site.crm[0].credentials
    assert after["client_id"] == before["client_id"]
    assert BOX.open(after["client_secret"]) == SecretStr("B")


async def test_a_secret_is_sealed_anew_when_its_key_is_on_its_way_out(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    old, new = new_key(), new_key()
    await applied(SITE, desk, box=SecretBox([old]))

    await applied(SITE, desk, box=SecretBox([new, old]))

    sealed = (await sites.get("acme")).site.crm[0].credentials["client_id"]
    assert SecretBox([new]).open(sealed) == SecretStr("a")
    assert not (await planned(SITE, desk, box=SecretBox([new, old]))).changes


async def test_a_stored_secret_that_no_key_opens_stops_the_plan(desk: RuleDesk) -> None:
    await applied(SITE, desk)

    with pytest.raises(BadSetting, match="CALLMESH_SECRET_KEYS"):
        await planned(SITE, desk, box=SecretBox([new_key()]))


# -- what the file does not have ----------------------------------------------------------------


async def test_what_the_file_does_not_have_stays(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(SITE, desk)

    changes = await applied(SITE.replace(DOOR, "").replace(BEN, ""), desk)

    assert changes == ["= acme: pbx door", "= acme: agents 102"]
    site = (await sites.get("acme")).site
    assert (site.pbx_named("door") is None, site.agent_at("102") is None) == (False, False)


async def test_with_prune_what_the_file_does_not_have_goes(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(SITE, desk)

    changes = await applied(SITE.replace(DOOR, "").replace(BEN, ""), desk, prune=True)

    assert changes == ["- acme: pbx door", "- acme: agents 102"]
    site = (await sites.get("acme")).site
    assert (site.pbx_named("door"), site.agent_at("102")) == (None, None)


async def test_that_something_stays_is_no_reason_to_write(desk: RuleDesk) -> None:
    await applied(SITE, desk)

    wanted = await planned(SITE.replace(DOOR, ""), desk)

    assert wanted.documents == []


async def test_what_stays_is_kept_beside_what_changes(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(SITE, desk)
    await applied(SITE.replace(DOOR, "").replace("region: GB", "region: DE"), desk)

    site = (await sites.get("acme")).site
    assert (site.region, [pbx.name for pbx in site.pbx]) == ("DE", ["main", "door"])


async def test_a_tenant_that_the_file_does_not_have_is_left_alone(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(tenants("acme", "globex"), desk)

    changes = await applied(tenants("globex", title="new"), desk, prune=True)

    assert changes == ["~ globex: title"]
    assert (await sites.get("acme")).site.title == "acme"


async def test_with_prune_an_empty_file_empties_the_tenant(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(SITE, desk)
    await applied(EMPTY, desk, prune=True)

    assert (await sites.get("acme")).site == Site(tenant="acme")


async def test_a_plan_that_would_store_what_cannot_be_read_is_refused(desk: RuleDesk) -> None:
    """A rule with a new name, while the old one stays: two rules would hold one DID."""
    await applied(SITE, desk)

    with pytest.raises(BadSetting, match="442079460000"):
        await planned(SITE.replace("by-tier", "by-rank"), desk)


async def test_with_prune_a_rule_may_change_its_name(desk: RuleDesk) -> None:
    await applied(SITE, desk)

    changes = await applied(SITE.replace("by-tier", "by-rank"), desk, prune=True)

    assert changes == ["+ acme: rules by-rank", "- acme: rules by-tier"]
    assert list(desk.book.of("acme")) == ["by-rank"]


# -- rules --------------------------------------------------------------------------------------

RULE = """\
      - name: by-tier
        dids: ["442079460000"]
        crm: zoho
        field: Tier
        rows: [{operator: "=", value: GOLD, destination: "queue:support"}]
        default: extension:102
"""
VIP = """\
      - name: vip
        dids: ["442079460009"]
        crm: zoho
        field: Tier
        rows: [{operator: "=", value: GOLD, destination: "queue:support"}]
        default: extension:102
"""


async def test_that_only_a_rule_changes_leaves_the_tenant_as_it_is(desk: RuleDesk) -> None:
    await applied(SITE, desk)

    wanted = await planned(SITE.replace("GOLD", "SILVER"), desk)

    assert not wanted.documents
    assert wanted.tenants == {"acme"}
    await carry_out(wanted, desk)
    assert desk.book.of("acme")["by-tier"].number == 2
    assert (await desk.stored.sites.get("acme")).version == 0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("1", "1 2", "1 new"),
        ("1 2 3", "1 3", "1 gone"),
        ("1 2 3", "1 x 3", "1 changed"),
        ("1 2 3", "x y 2 3", "1 changed, 1 new"),
        ("1 2 3 4", "x 4", "1 changed, 2 gone"),
        ("1 2", "2 1", "2 changed"),
        ("1", "0 1", "1 new"),
    ],
)
async def test_how_many_rows_changed_is_said(
    desk: RuleDesk, before: str, after: str, said: str
) -> None:
    def with_rows(values: str) -> str:
        rows = [f'{{operator: "=", value: "{v}", destination: "queue:a"}}' for v in values.split()]
        row = '{operator: "=", value: GOLD, destination: "queue:support"}'
        assert row in SITE
        return SITE.replace(row, ", ".join(rows))

    await applied(with_rows(before), desk)
    assert await applied(with_rows(after), desk) == [f"~ acme: rules by-tier: rows ({said})"]


async def test_a_rule_that_the_file_does_not_have_stays_or_goes_with_prune(desk: RuleDesk) -> None:
    await applied(SITE, desk)
    without = SITE.replace("    rules:\n" + RULE, "")

    assert await applied(without, desk) == ["= acme: rules by-tier"]
    assert list(desk.book.of("acme")) == ["by-tier"]
    assert await applied(without, desk, prune=True) == ["- acme: rules by-tier"]
    assert dict(desk.book.of("acme")) == {}
    assert await applied(SITE, desk) == ["+ acme: rules by-tier"]
    assert [one.what for one in await desk.versions("acme", "by-tier")] == [
        "created",
        "deleted",
        "created",
    ]


async def test_rules_of_two_tenants_are_written_together(desk: RuleDesk) -> None:
    one = SITE.partition("tenants:\n")[2]
    text = "tenants:\n" + one + one.replace("tenant: acme", "tenant: globex")
    await applied(text, desk)
    assert {t: list(rules) for t, rules in desk.book.current.items()} == {
        "acme": ["by-tier"],
        "globex": ["by-tier"],
    }


async def test_a_file_does_not_take_what_a_stored_rule_needs(desk: RuleDesk) -> None:
    """The rule came by the API; the file knows neither it nor its agent."""
    await applied(SITE, desk)
    text = SITE.replace("GOLD", "SILVER").replace(BEN, "").replace("extension:102", "queue:x")
    rule = read(SITE.replace("by-tier", "own").replace("442079460000", "442079460007"))[0].rules[0]
    await desk.put_rule(
        "acme",
        rule.model_copy(update={"variables": {"CRM_BEN": Subject.parse("agent.102")}}),
        by="api",
    )

    assert "= acme: agents 102" in await applied(text, desk)
    # What the file does not have goes, and with it the rule that needs it.
    assert "- acme: rules own" in await applied(text, desk, prune=True)


async def test_a_number_that_a_stored_rule_has_is_a_fault_with_both_names(desk: RuleDesk) -> None:
    await applied(SITE, desk)
    text = SITE.replace(RULE, VIP.replace("442079460009", "442079460000"))

    with pytest.raises(BadSetting) as caught:
        await planned(text, desk)

    assert (
        "rule vip, dids: DID 442079460000 is already in rule by-tier; --prune"
        in caught.value.message
    )


async def test_a_number_goes_from_one_rule_to_another_in_one_file(desk: RuleDesk) -> None:
    await applied(SITE, desk)
    text = SITE.replace(RULE, VIP.replace("442079460009", "442079460000"))
    assert await applied(text, desk, prune=True) == [
        "+ acme: rules vip",
        "- acme: rules by-tier",
    ]
    assert list(desk.book.of("acme")) == ["vip"]


async def test_a_rule_that_somebody_else_changed_meanwhile_is_not_undone(desk: RuleDesk) -> None:
    await applied(SITE, desk)
    wanted = await planned(SITE.replace("GOLD", "SILVER"), desk)
    await applied(SITE.replace("GOLD", "BRONZE"), desk)

    with pytest.raises(Conflict, match="apply again"):
        await carry_out(wanted, desk)

    assert "BRONZE" in desk.book.of("acme")["by-tier"].source


async def test_a_secret_of_a_rule_that_is_the_same_is_no_change(desk: RuleDesk) -> None:
    own = "crm: zoho\n        credentials: {refresh_token: hunter2}\n        field: Tier"
    text = SITE.replace("crm: zoho\n        field: Tier", own)
    assert text != SITE
    await applied(text, desk)

    assert (await planned(text, desk)).rules == []
    changed = await planned(text.replace("{refresh_token: hunter2}", "{refresh_token: x}"), desk)
    assert [str(change) for change in changed.changes] == ["~ acme: rules by-tier: credentials"]
    assert "hunter" not in str(desk.book.of("acme")["by-tier"])


async def test_asterisks_are_no_secret(desk: RuleDesk) -> None:
    """As `rule show` prints them: who put that into his site file would lose the secret."""
    text = SITE.replace("field: Tier", 'credentials: {client_id: "********"}\n        field: Tier')
    with pytest.raises(BadSetting, match="client_id: asterisks are no secret: say it"):
        await planned(text, desk)


async def test_a_rule_that_was_put_meanwhile_is_seen_before_anything_is_done(
    desk: RuleDesk,
) -> None:
    """It needs what would be removed."""
    await applied(SITE, desk)
    wanted = await planned(EMPTY, desk, prune=True)
    await desk.put_rule("acme", read(SITE.replace(RULE, VIP))[0].rules[0], by="api")

    with pytest.raises(Conflict, match="apply again"):
        await carry_out(wanted, desk)

    assert (await desk.stored.sites.get("acme")).site.crm


async def test_changes_of_another_tenant_are_no_reason_to_apply_again(desk: RuleDesk) -> None:
    other = SITE.replace("tenant: acme", "tenant: globex")
    await applied(SITE, desk)
    await applied(other, desk)
    wanted = await planned(SITE.replace("GOLD", "SILVER"), desk)
    await applied(other.replace("GOLD", "BRONZE"), desk)

    await carry_out(wanted, desk)

    assert "SILVER" in desk.book.of("acme")["by-tier"].source


# -- carry_out ----------------------------------------------------------------------------------


async def test_every_change_has_a_moment_of_its_own(
    desk: RuleDesk, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """Although the clock stands: readers look for the newest change."""
    await applied(tenants("acme", "globex", "initech"), desk)
    await applied(tenants("acme", title="new"), desk)

    moments = [(await sites.get(name)).changed_at for name in ("globex", "initech", "acme")]
    assert moments == sorted(set(moments))


async def test_a_change_is_never_older_than_the_one_before(
    desk: RuleDesk, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """The clock of another machine may be behind."""
    await applied(tenants("acme"), desk)
    behind = ManualClock(clock.now() - timedelta(hours=1))

    await applied(tenants("globex"), desk, clock=behind)

    assert (await sites.get("globex")).changed_at > (await sites.get("acme")).changed_at


async def test_a_later_change_has_the_time_of_the_clock(
    desk: RuleDesk, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants("acme"), desk)
    await clock.advance(SECOND)
    await applied(tenants("acme", title="new"), desk)

    assert (await sites.get("acme")).changed_at == clock.now()


async def test_who_comes_second_does_not_undo_the_change_of_the_first(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    await applied(tenants("acme"), desk)
    first = await planned(tenants("acme", title="first"), desk)
    second = await planned(tenants("acme", title="second"), desk)
    await carry_out(first, desk)

    with pytest.raises(Conflict):
        await carry_out(second, desk)

    assert (await sites.get("acme")).site.title == "first"


async def test_who_comes_second_does_not_undo_a_new_tenant_of_the_first(
    desk: RuleDesk, sites: Collection[SiteDocument]
) -> None:
    first = await planned(tenants("acme", title="first"), desk)
    second = await planned(tenants("acme", title="second"), desk)
    await carry_out(first, desk)

    with pytest.raises(Conflict):
        await carry_out(second, desk)

    assert (await sites.get("acme")).site.title == "first"


# -- the book -----------------------------------------------------------------------------------


async def test_a_book_is_empty_until_it_is_read(book: SiteBook) -> None:
    assert (book.loaded, dict(book.current), book.site("acme")) == (False, {}, None)


async def test_a_book_of_an_empty_store_is_loaded_too(book: SiteBook) -> None:
    assert await book.refresh()
    assert (book.loaded, dict(book.current)) == (True, {})


async def test_a_book_has_what_was_applied(
    desk: RuleDesk, book: SiteBook, sites: Collection[SiteDocument]
) -> None:
    await applied(SITE, desk)

    await book.refresh()

    assert book.site("acme") == (await sites.get("acme")).site
    assert [(tenant, pbx.name) for tenant, pbx in book.asterisks()] == [("acme", "main")]


async def test_a_book_reads_only_what_changed(desk: RuleDesk, book: SiteBook) -> None:
    await applied(SITE, desk)
    await book.refresh()

    assert not await book.refresh()


async def test_a_book_notices_each_change(
    desk: RuleDesk, book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """Although the clock stands between them."""
    await book.refresh()
    for text in (
        tenants("acme"),
        tenants("globex"),
        tenants("acme", title="new"),
        tenants("globex", title="new"),
        tenants("acme", title="newer"),
        tenants("acme", "globex", title="newest"),
    ):
        await applied(text, desk)

        assert await book.refresh()
        assert book.current == {
            document.key: document.site
            for document in [await sites.get(name) for name in book.current]
        }
    assert {name: site.title for name, site in book.current.items()} == {
        "acme": "newest",
        "globex": "newest",
    }


async def test_a_book_notices_that_a_tenant_is_gone(
    desk: RuleDesk, book: SiteBook, sites: Collection[SiteDocument]
) -> None:
    await applied(tenants("acme", "globex"), desk)
    await book.refresh()
    await sites.delete("acme")

    assert await book.refresh()
    assert list(book.current) == ["globex"]


async def test_more_tenants_than_a_page_are_all_read(book: SiteBook, desk: RuleDesk) -> None:
    await applied(tenants(*(f"t{number}" for number in range(130))), desk)

    await book.refresh()

    assert len(book.current) == 130


async def test_while_the_store_is_away_the_last_snapshot_holds(
    desk: RuleDesk, book: SiteBook, db: SqliteFile
) -> None:
    await applied(SITE, desk)
    await book.refresh()
    before = book.current
    await db.close()

    with pytest.raises(Unavailable):
        await book.refresh()

    assert (book.current, book.loaded) == (before, True)


async def test_who_watches_reads_a_change_at_the_next_poll_and_tells_who_waits(
    desk: RuleDesk, book: SiteBook, clock: ManualClock
) -> None:
    waiting = asyncio.create_task(book.changed())
    watching = asyncio.create_task(book.watch())
    await eventually(lambda: clock.sleepers == 1)
    await applied(tenants("acme"), desk)

    await clock.advance(SECOND)
    await waiting

    assert list(book.current) == ["acme"]
    watching.cancel()


async def test_who_watches_goes_on_when_the_store_comes_back(
    db: SqliteFile, clock: ManualClock
) -> None:
    book = SiteBook(SqliteStore(db, clock).collection(SITES), clock, poll=SECOND)
    await db.close()
    watching = asyncio.create_task(book.watch())
    await eventually(lambda: clock.sleepers == 1)
    await clock.advance(SECOND)
    await eventually(lambda: clock.sleepers == 1)
    assert not book.loaded

    await db.open()
    await clock.advance(SECOND)

    await eventually(lambda: book.loaded)
    watching.cancel()

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.errors import BadSetting, Conflict, Unavailable
from shared.moments import to_instant
from shared.secrets import SecretBox, new_key
from shared.site.apply import Plan, carry_out, plan
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.models import Site
from shared.site.parts import Sealing
from shared.site.pbx import AsteriskPbx
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
def book(sites: Collection[SiteDocument], clock: ManualClock) -> SiteBook:
    return SiteBook(sites, clock, poll=SECOND)


def read(text: str, box: SecretBox = BOX) -> tuple[Site, ...]:
    sealing = Sealing(box=box, environment={}, folder=Path())
    return read_site_file(text, source="site.yaml", sealing=sealing)


async def planned(
    text: str,
    sites: Collection[SiteDocument],
    clock: ManualClock,
    *,
    prune: bool = False,
    box: SecretBox = BOX,
) -> Plan:
    return await plan(read(text, box), sites, secrets=box, clock=clock, by="ada", prune=prune)


async def applied(
    text: str,
    sites: Collection[SiteDocument],
    clock: ManualClock,
    *,
    prune: bool = False,
    box: SecretBox = BOX,
) -> list[str]:
    wanted = await planned(text, sites, clock, prune=prune, box=box)
    await carry_out(wanted, sites, clock=clock)
    return [str(change) for change in wanted.changes]


def tenants(*names: str, title: str = "") -> str:
    """A file of tenants with nothing but a title."""
    lines = [f"  - {{tenant: {name}, title: {title or name}}}" for name in names]
    return "\n".join(["tenants:", *lines])


# -- plan ---------------------------------------------------------------------------------------


async def test_a_new_tenant_is_new_with_all_it_has(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    assert await applied(SITE, sites, clock) == [
        "+ acme: tenant ACME Ltd",
        "+ acme: pbx main",
        "+ acme: pbx door",
        "+ acme: crm zoho",
        "+ acme: agents 101",
        "+ acme: agents 102",
        "+ acme: rules by-tier",
    ]


async def test_what_was_applied_is_stored_with_who_and_when(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    document = await sites.get("acme")
    assert (document.tenant, document.version, document.changed_by) == ("acme", 0, "ada")
    assert document.changed_at == to_instant(clock.now())
    assert document.site.rules == read(SITE)[0].rules


async def test_the_second_time_there_is_nothing_to_change(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """Also although every secret of the file is sealed anew, into another text."""
    await applied(SITE, sites, clock)

    again = await planned(SITE, sites, clock)

    assert (again.changes, again.documents) == ([], [])


async def test_a_plan_writes_nothing(sites: Collection[SiteDocument], clock: ManualClock) -> None:
    await planned(SITE, sites, clock)

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
        pytest.param("value: GOLD", "value: SILVER", "~ acme: rules by-tier: rows", id="a row"),
        pytest.param(
            BEN, BEN + '      - {extension: "103"}\n', "+ acme: agents 103", id="one more"
        ),
        pytest.param(DOOR, "", "= acme: pbx door", id="one less"),
    ],
)
async def test_what_changed_is_named(
    sites: Collection[SiteDocument], clock: ManualClock, old: str, new: str, change: str
) -> None:
    assert SITE.count(old) == 1
    await applied(SITE, sites, clock)

    assert await applied(SITE.replace(old, new), sites, clock) == [change]


async def test_a_pbx_that_became_another_kind_is_changed(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied("tenants: [{tenant: acme, pbx: [{name: main, kind: generic}]}]", sites, clock)

    await applied(SITE, sites, clock)

    assert isinstance((await sites.get("acme")).site.pbx[0], AsteriskPbx)


async def test_a_changed_tenant_has_the_next_version(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants("acme"), sites, clock)
    await applied(tenants("acme", title="other"), sites, clock)

    document = await sites.get("acme")
    assert (document.version, document.site.title) == (1, "other")


async def test_a_secret_that_is_the_same_keeps_its_seal(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)
    before = (await sites.get("acme")).site.crm[0].credentials

    await applied(SITE.replace("client_secret: b", "client_secret: B"), sites, clock)

    after = (await sites.get("acme")).site.crm[0].credentials
    assert after["client_id"] == before["client_id"]
    assert BOX.open(after["client_secret"]) == SecretStr("B")


async def test_a_secret_is_sealed_anew_when_its_key_is_on_its_way_out(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    old, new = new_key(), new_key()
    await applied(SITE, sites, clock, box=SecretBox([old]))

    await applied(SITE, sites, clock, box=SecretBox([new, old]))

    sealed = (await sites.get("acme")).site.crm[0].credentials["client_id"]
    assert SecretBox([new]).open(sealed) == SecretStr("a")
    assert not (await planned(SITE, sites, clock, box=SecretBox([new, old]))).changes


async def test_a_stored_secret_that_no_key_opens_stops_the_plan(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    with pytest.raises(BadSetting, match="CALLMESH_SECRET_KEYS"):
        await planned(SITE, sites, clock, box=SecretBox([new_key()]))


# -- what the file does not have ----------------------------------------------------------------


async def test_what_the_file_does_not_have_stays(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    changes = await applied(SITE.replace(DOOR, "").replace(BEN, ""), sites, clock)

    assert changes == ["= acme: pbx door", "= acme: agents 102"]
    site = (await sites.get("acme")).site
    assert (site.pbx_named("door") is None, site.agent_at("102") is None) == (False, False)


async def test_with_prune_what_the_file_does_not_have_goes(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    changes = await applied(SITE.replace(DOOR, "").replace(BEN, ""), sites, clock, prune=True)

    assert changes == ["- acme: pbx door", "- acme: agents 102"]
    site = (await sites.get("acme")).site
    assert (site.pbx_named("door"), site.agent_at("102")) == (None, None)


async def test_that_something_stays_is_no_reason_to_write(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    wanted = await planned(SITE.replace(DOOR, ""), sites, clock)

    assert wanted.documents == []


async def test_what_stays_is_kept_beside_what_changes(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)
    await applied(SITE.replace(DOOR, "").replace("region: GB", "region: DE"), sites, clock)

    site = (await sites.get("acme")).site
    assert (site.region, [pbx.name for pbx in site.pbx]) == ("DE", ["main", "door"])


async def test_a_tenant_that_the_file_does_not_have_is_left_alone(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants("acme", "globex"), sites, clock)

    changes = await applied(tenants("globex", title="new"), sites, clock, prune=True)

    assert changes == ["~ globex: title"]
    assert (await sites.get("acme")).site.title == "acme"


async def test_with_prune_an_empty_file_empties_the_tenant(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)
    await applied(EMPTY, sites, clock, prune=True)

    assert (await sites.get("acme")).site == Site(tenant="acme")


async def test_a_plan_that_would_store_what_cannot_be_read_is_refused(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """A rule with a new name, while the old one stays: two rules would hold one DID."""
    await applied(SITE, sites, clock)

    with pytest.raises(BadSetting, match="442079460000"):
        await planned(SITE.replace("by-tier", "by-rank"), sites, clock)


async def test_with_prune_a_rule_may_change_its_name(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    changes = await applied(SITE.replace("by-tier", "by-rank"), sites, clock, prune=True)

    assert changes == ["+ acme: rules by-rank", "- acme: rules by-tier"]
    assert [rule.name for rule in (await sites.get("acme")).site.rules] == ["by-rank"]


# -- carry_out ----------------------------------------------------------------------------------


async def test_every_change_has_a_moment_of_its_own(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """Although the clock stands: readers look for the newest change."""
    await applied(tenants("acme", "globex", "initech"), sites, clock)
    await applied(tenants("acme", title="new"), sites, clock)

    moments = [(await sites.get(name)).changed_at for name in ("globex", "initech", "acme")]
    assert moments == sorted(set(moments))


async def test_a_change_is_never_older_than_the_one_before(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    """The clock of another machine may be behind."""
    await applied(tenants("acme"), sites, clock)
    behind = ManualClock(clock.now() - timedelta(hours=1))

    await applied(tenants("globex"), sites, behind)

    assert (await sites.get("globex")).changed_at > (await sites.get("acme")).changed_at


async def test_a_later_change_has_the_time_of_the_clock(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants("acme"), sites, clock)
    await clock.advance(SECOND)
    await applied(tenants("acme", title="new"), sites, clock)

    assert (await sites.get("acme")).changed_at == clock.now()


async def test_who_comes_second_does_not_undo_the_change_of_the_first(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants("acme"), sites, clock)
    first = await planned(tenants("acme", title="first"), sites, clock)
    second = await planned(tenants("acme", title="second"), sites, clock)
    await carry_out(first, sites, clock=clock)

    with pytest.raises(Conflict):
        await carry_out(second, sites, clock=clock)

    assert (await sites.get("acme")).site.title == "first"


async def test_who_comes_second_does_not_undo_a_new_tenant_of_the_first(
    sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    first = await planned(tenants("acme", title="first"), sites, clock)
    second = await planned(tenants("acme", title="second"), sites, clock)
    await carry_out(first, sites, clock=clock)

    with pytest.raises(Conflict):
        await carry_out(second, sites, clock=clock)

    assert (await sites.get("acme")).site.title == "first"


# -- the book -----------------------------------------------------------------------------------


async def test_a_book_is_empty_until_it_is_read(book: SiteBook) -> None:
    assert (book.loaded, dict(book.current), book.site("acme")) == (False, {}, None)


async def test_a_book_of_an_empty_store_is_loaded_too(book: SiteBook) -> None:
    assert await book.refresh()
    assert (book.loaded, dict(book.current)) == (True, {})


async def test_a_book_has_what_was_applied(
    book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)

    await book.refresh()

    assert book.site("acme") == (await sites.get("acme")).site
    assert [(tenant, pbx.name) for tenant, pbx in book.asterisks()] == [("acme", "main")]


async def test_a_book_reads_only_what_changed(
    book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)
    await book.refresh()

    assert not await book.refresh()


async def test_a_book_notices_each_change(
    book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
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
        await applied(text, sites, clock)

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
    book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants("acme", "globex"), sites, clock)
    await book.refresh()
    await sites.delete("acme")

    assert await book.refresh()
    assert list(book.current) == ["globex"]


async def test_more_tenants_than_a_page_are_all_read(
    book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(tenants(*(f"t{number}" for number in range(130))), sites, clock)

    await book.refresh()

    assert len(book.current) == 130


async def test_while_the_store_is_away_the_last_snapshot_holds(
    book: SiteBook, db: SqliteFile, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    await applied(SITE, sites, clock)
    await book.refresh()
    before = book.current
    await db.close()

    with pytest.raises(Unavailable):
        await book.refresh()

    assert (book.current, book.loaded) == (before, True)


async def test_who_watches_reads_a_change_at_the_next_poll_and_tells_who_waits(
    book: SiteBook, sites: Collection[SiteDocument], clock: ManualClock
) -> None:
    waiting = asyncio.create_task(book.changed())
    watching = asyncio.create_task(book.watch())
    await eventually(lambda: clock.sleepers == 1)
    await applied(tenants("acme"), sites, clock)

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

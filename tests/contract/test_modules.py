"""The telephony module of ours in a retailCRM: registered, compared, put right, switched off; once."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from services.lookup.module_book import EVERY, MODULES, ModuleDocument
from services.lookup.modules import ModuleKeeper
from shared.clock import ManualClock
from shared.contracts.contacts import CrmUser
from shared.contracts.modules import ModuleRecord
from shared.errors import Conflict, NeedsReconnect, Unavailable
from shared.site.documents import SITES
from shared.site.models import Site
from shared.storage.port import Find
from shared.testing.waiting import eventually
from tests.contract.cards_kit import RetailShop, retail_shop

ANN = CrmUser(user_id="24", display_name="Ann", email="ann@acme.example")
BOB = CrmUser(user_id="25", display_name="Bob", email="bob@acme.example")
AGENTS = [
    {"extension": "101", "email": "ann@acme.example"},
    {"extension": "102", "email": "bob@acme.example"},
    {"extension": "103"},
]
NUMBERS = {"shop1": "+74999999999", "shop2": "+74998888888"}
WANTED = {"registered": True, "title": "Berlin"}
EDIT = "/api/v5/integration-modules/callmesh/edit"


class House:
    """Tenant acme, whose retailCRM has a module of ours."""

    def __init__(self, shop: RetailShop) -> None:
        self.shop = shop
        self.crm = shop.crm
        self.clock = shop.clock

    @property
    def keeper(self) -> ModuleKeeper:
        return self.shop.replicas[0].modules

    async def apply(
        self, telephony: dict[str, Any] | None = None, shops: Any = None, **more: Any
    ) -> Site:
        return await self.shop.apply(
            self.shop.connection(telephony=WANTED if telephony is None else telephony, **more),
            agents=AGENTS,
            dialing={"numbers": {"shops": NUMBERS if shops is None else shops}},
        )

    async def looks(self, replica: int = 0, *, is_news: bool = True) -> None:
        """What the keeper does by itself, of each connection."""
        keeper = self.shop.replicas[replica].modules
        for site in keeper.site.current.values():
            for crm in site.crm:
                if crm.telephony.registered:
                    await keeper._look_at(site, crm, is_news=is_news)

    async def sweeps(self, replica: int = 0) -> None:
        await self.shop.replicas[replica].modules.ends.sweep()

    async def passes(self, time: timedelta = EVERY) -> None:
        assert isinstance(self.clock, ManualClock)
        await self.clock.advance(time)

    async def state(self) -> ModuleRecord:
        site = self.keeper.site.site("acme")
        assert site is not None
        return await self.keeper.state(site, site.crm[0])

    async def registers(self, replica: int = 0) -> ModuleRecord:
        keeper = self.shop.replicas[replica].modules
        site = keeper.site.site("acme")
        assert site is not None
        return await keeper.register(site, site.crm[0])

    async def documents(self) -> list[ModuleDocument]:
        return (await self.shop.store.collection(MODULES).page(Find())).documents

    @property
    def there(self) -> dict[str, Any]:
        return self.crm.modules["callmesh"]

    @property
    def edits(self) -> int:
        return self.crm.asked[EDIT]


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def house(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[House]:
    url = request.getfixturevalue("mongo_url") if request.param == "mongo" else None
    async with a_house(request.param, clock, url) as found:
        yield found


@asynccontextmanager
async def a_house(
    kind: str, clock: ManualClock, mongo_url: str | None = None, public_url: str | None = ""
) -> AsyncIterator[House]:
    async with retail_shop(kind, clock, mongo_url) as shop:
        if public_url != "":
            shop.public_url = public_url
        shop.crm.add_user(25, email="bob@acme.example")
        found = House(shop)
        await found.apply()
        await shop.users_are(ANN, BOB)
        for _ in range(2):
            await shop.replica()
        yield found


async def test_it_is_registered_with_what_the_site_says(house: House) -> None:
    await house.looks()
    assert house.crm.codes() == {"101": 24, "102": 25}
    assert house.there["name"] == "Berlin"
    assert house.there["active"] is True
    telephony = house.crm.telephony
    assert telephony is not None
    rows = {row["siteCode"]: row["externalPhone"] for row in telephony["externalPhones"]}
    assert rows == NUMBERS
    addresses = house.shop.links.addresses("acme", "retail")
    assert addresses is not None
    assert telephony["makeCallUrl"] == addresses.dial_url
    assert telephony["changeUserStatusUrl"] == addresses.status_url
    assert house.crm.client_id == addresses.client_id

    state = await house.state()
    assert (state.wanted, state.possible, state.active) == (True, True, True)
    assert (state.code, state.extensions, state.shops) == ("callmesh", ("101", "102"), NUMBERS)
    assert (state.registered_at, state.checked_at) == (house.clock.now(), house.clock.now())
    assert (state.differs, state.unknown, state.fault) == ((), (), None)


async def test_it_is_registered_once_over_all_replicas_and_restarts(house: House) -> None:
    await asyncio.gather(house.looks(0), house.looks(1))
    for replica in (0, 1):
        await house.looks(replica)
    assert house.edits == 1


async def test_what_somebody_changes_there_is_put_right_within_the_hour(house: House) -> None:
    await house.looks()
    house.there["name"] = "Mine"
    telephony = house.there["integrations"]["telephony"]
    telephony["additionalCodes"].pop()
    telephony["makeCallUrl"] = "https://evil.example/take"
    await house.looks(is_news=False)
    assert house.edits == 1

    await house.passes()
    with structlog.testing.capture_logs() as lines:
        await house.looks(is_news=False)
    assert house.edits == 2
    assert house.crm.codes() == {"101": 24, "102": 25}
    assert house.there["name"] == "Berlin"
    state = await house.state()
    assert state.mended_at == house.clock.now()
    told = " ".join(state.mended)
    assert "name" in told
    assert "code 102" in told
    assert "evil" not in told
    assert state.differs == ()
    (line,) = [line for line in lines if line["event"] == "module_differs"]
    assert line["differs"] == list(state.mended)


async def test_one_that_was_deleted_there_is_made_again(house: House) -> None:
    await house.looks()
    house.crm.modules.clear()
    await house.passes()
    await house.looks(is_news=False)
    assert house.crm.codes() == {"101": 24, "102": 25}
    assert (await house.state()).mended == ("the CRM has no such module",)


async def test_what_the_site_changes_goes_there_at_once(house: House) -> None:
    await house.looks()
    await house.apply(shops={"shop1": "+74997777777"})
    await house.looks()
    telephony = house.crm.telephony
    assert telephony is not None
    assert telephony["externalPhones"] == [{"siteCode": "shop1", "externalPhone": "+74997777777"}]
    # Another change of the site that is none of the module's.
    await house.apply(shops={"shop1": "+74997777777"}, fresh="1m")
    await house.looks()
    assert house.edits == 2


async def test_users_and_shops_that_it_does_not_have_are_told_and_not_sent_for_ever(
    house: House,
) -> None:
    house.crm.users.pop(25)
    house.crm.sites.discard("shop2")
    await house.looks()
    state = await house.state()
    assert set(state.unknown) == {"25", "shop2"}
    assert state.differs
    edits = house.edits
    for _ in range(3):
        await house.passes()
        await house.looks(is_news=False)
    assert house.edits == edits
    assert (await house.state()).mended == ()


async def test_a_new_user_gets_his_code(house: House) -> None:
    await house.shop.users_are(ANN)
    await house.looks()
    assert house.crm.codes() == {"101": 24}
    await house.shop.users_are(ANN, BOB)
    house.keeper.look_again("acme", "retail")
    await house.looks()
    assert house.crm.codes() == {"101": 24, "102": 25}


async def test_users_that_were_never_read_are_read_first(house: House) -> None:
    house.crm.users[24].email = "ann@acme.example"
    await house.apply(name="second")
    await house.looks()
    assert house.crm.codes() == {"101": 24, "102": 25}
    assert house.crm.asked["/api/v5/users"] == 1


async def test_it_waits_a_minute_for_a_crm_that_does_not_tell_its_users(house: House) -> None:
    await house.apply(name="second")
    house.crm.limited["/users"] = 3
    await house.looks()
    assert house.edits == 0
    await house.passes(timedelta(seconds=30))
    await house.looks(is_news=False)
    assert house.edits == 0
    await house.passes(timedelta(seconds=30))
    looking = asyncio.create_task(house.looks(is_news=False))

    async def is_over() -> bool:
        # It asked for a pause.
        await house.passes(timedelta(seconds=1))
        return looking.done()

    await eventually(is_over)
    assert house.edits == 1
    assert house.crm.codes() == {}


# -- what goes wrong -------------------------------------------------------------------------------------


async def test_without_a_public_address_it_says_what_to_set(clock: ManualClock) -> None:
    async with a_house("sqlite", clock, public_url=None) as house:
        await house.looks()
        assert house.edits == 0
        assert "CALLMESH_PUBLIC_URL" in ((await house.state()).fault or "")
        with pytest.raises(Conflict, match="CALLMESH_PUBLIC_URL"):
            await house.registers()


async def test_a_failure_is_told_and_tried_again_later_and_later(house: House) -> None:
    house.crm.limited["/edit"] = 2
    await house.looks()
    first = await house.state()
    assert first.fault
    assert not first.active
    await house.looks(is_news=False)
    assert house.edits == 1
    await house.passes(timedelta(minutes=1))
    await house.looks(is_news=False)
    assert house.edits == 2
    await house.passes(timedelta(minutes=1))
    await house.looks(is_news=False)
    assert house.edits == 2
    await house.passes(timedelta(minutes=1))
    await house.looks(is_news=False)
    state = await house.state()
    assert (state.fault, state.active) == (None, True)


async def test_a_wrong_key_is_told_to_who_registers_it_by_hand(house: House) -> None:
    site = await house.apply()
    wrong = site.crm[0].model_copy(update={"credentials": {}})
    with pytest.raises((NeedsReconnect, Conflict)):
        await house.keeper.register(site, wrong)
    assert (await house.state()).fault


async def test_registering_by_hand_is_done_at_once_and_by_one(house: House) -> None:
    state = await house.registers()
    assert state.active
    await house.registers(replica=1)
    assert house.edits == 2
    mine = await house.keeper.book.claim("acme", "retail", lease=timedelta(minutes=1))
    assert mine is not None
    with pytest.raises(Unavailable, match="just now"):
        await house.registers()


async def test_it_is_not_registered_where_the_site_does_not_want_it_or_the_crm_has_none(
    house: House,
) -> None:
    await house.apply(telephony={"registered": False})
    with pytest.raises(Conflict, match="registered: true"):
        await house.registers()
    assert (await house.state()).wanted is False

    await house.shop.apply(
        {
            "name": "retail",
            "template": "proprietary",
            "parameters": {"url": house.crm.url},
            "telephony": WANTED,
        }
    )
    with pytest.raises(Conflict, match=r"telephony|parameter"):
        await house.registers()
    assert (await house.state()).possible is False


async def test_who_dies_with_it_in_hand_holds_it_for_two_minutes(house: House) -> None:
    assert await house.keeper.book.claim("acme", "retail", lease=timedelta(minutes=2))
    await house.looks(1)
    assert house.edits == 0
    await house.passes(timedelta(minutes=2))
    await house.looks(1)
    assert house.edits == 1


# -- the end ---------------------------------------------------------------------------------------------


async def test_switched_off_in_the_site_it_is_switched_off_there_once(house: House) -> None:
    await house.looks()
    await house.apply(telephony={"registered": False})
    for replica in (0, 1, 0):
        await house.sweeps(replica)
    assert house.edits == 2
    assert house.there["active"] is False
    # What people set up there otherwise is as it was.
    assert house.there["integrations"]["telephony"]["additionalCodes"]
    assert (await house.state()).active is False

    await house.apply()
    await house.looks()
    assert house.there["active"] is True


@pytest.mark.parametrize("gone", ["the connection", "the tenant"])
async def test_of_a_connection_that_is_gone_it_is_switched_off(house: House, gone: str) -> None:
    await house.looks()
    if gone == "the connection":
        await house.shop.apply()
    else:
        await house.shop.store.collection(SITES).delete("acme")
        for replica in house.shop.replicas:
            replica.site.loaded = False
            await replica.site.refresh()
    await house.sweeps()
    assert house.there["active"] is False
    assert await house.documents() == []


async def test_a_replica_that_does_not_know_the_connection_yet_switches_nothing_off(
    house: House,
) -> None:
    """Its site is seconds old; another replica has registered the module meanwhile."""
    old = house.shop.replicas[1].site
    await house.shop.apply()
    stale = house.shop.replicas.pop(1)
    assert stale.site is old
    await house.passes(timedelta(seconds=1))
    await house.apply()
    await house.looks()
    assert old.site("acme") is not None
    await stale.modules.ends.sweep()
    assert house.there["active"] is True
    # And while the store is away at its start it knows nothing.
    old.loaded = False
    await stale.modules.ends.sweep()
    assert house.there["active"] is True


async def test_a_module_that_moves_to_another_code_or_crm_leaves_none_behind(house: House) -> None:
    await house.looks()
    await house.apply(telephony={**WANTED, "code": "second"})
    await house.looks()
    assert house.there["active"] is False
    assert house.crm.modules["second"]["active"] is True
    state = await house.state()
    assert state.code == "second"


async def test_what_cannot_be_switched_off_is_tried_for_a_day(house: House) -> None:
    await house.looks()
    await house.shop.apply()
    house.crm.limited["/edit"] = 1000
    await house.sweeps()
    tries = house.edits
    await house.sweeps()
    assert house.edits == tries
    for _ in range(26):
        await house.passes()
        await house.sweeps()
    assert await house.documents() == []
    assert 20 < house.edits < 40


# -- secrets -----------------------------------------------------------------------------------------------


async def test_no_secret_is_in_the_state_the_log_or_the_store(house: House) -> None:
    addresses = house.shop.links.addresses("acme", "retail")
    assert addresses is not None
    with structlog.testing.capture_logs() as lines:
        await house.looks()
        broken = copy.deepcopy(house.there)
        broken["clientId"] = "x"
        broken["integrations"]["telephony"]["clientId"] = "x"
        broken["integrations"]["telephony"]["makeCallUrl"] = addresses.status_url
        house.crm.modules["callmesh"] = broken
        await house.passes()
        await house.looks(is_news=False)
        state = await house.state()
    assert state.mended
    said = json.dumps([lines, state.model_dump(mode="json")], default=str)
    said += "".join(one.model_dump_json() for one in await house.documents())
    for secret in (addresses.token, addresses.client_id, addresses.dial_url):
        assert secret not in said


# -- by itself -------------------------------------------------------------------------------------------


async def test_what_the_site_changes_while_another_works_at_it_waits_for_no_hour(
    house: House,
) -> None:
    """He may have begun by the site of before, and be gone."""
    keeper = house.keeper
    await house.looks()
    another = await keeper.book.claim("acme", "retail", lease=timedelta(minutes=2))
    assert another is not None
    running = asyncio.create_task(keeper.run())
    await house.apply(telephony={**WANTED, "title": "Hamburg"})

    async def until(name: str) -> bool:
        await house.passes(timedelta(seconds=5))
        return bool(house.there["name"] == name)

    for _ in range(3):
        assert not await until("Hamburg")
    await keeper.book.fine(another)
    began = house.clock.now()
    await eventually(lambda: until("Hamburg"))
    running.cancel()
    assert house.clock.now() - began < timedelta(minutes=2)


async def test_users_that_are_read_while_it_is_in_hand_wait_for_no_hour(house: House) -> None:
    keeper = house.keeper
    ((site, crm, is_news),) = keeper._due()
    keeper._next["acme", "retail"] = site, None, False  # as `run` says that it is in hand
    keeper.look_again("acme", "retail")
    assert keeper._due() == []
    await keeper._look_at(site, crm, is_news=is_news)
    assert keeper._due() == [(site, crm, True)]

    keeper._next["acme", "retail"] = site, None, False
    await keeper._look_at(site, crm, is_news=True)
    assert keeper._due() == []


async def test_it_is_kept_by_itself(house: House) -> None:
    running = [
        asyncio.create_task(work())
        for replica in house.shop.replicas
        for work in (replica.modules.run, replica.modules.ends.run)
    ]
    await eventually(lambda: house.edits == 1)

    async def until(there: bool) -> bool:
        await house.passes(timedelta(seconds=5))
        return house.there["active"] is there

    await house.apply(telephony={"registered": False})
    await eventually(lambda: until(False))
    await house.apply()
    await eventually(lambda: until(True))
    for task in running:
        task.cancel()
    assert {type(one) for one in await asyncio.gather(*running, return_exceptions=True)} == {
        asyncio.CancelledError
    }

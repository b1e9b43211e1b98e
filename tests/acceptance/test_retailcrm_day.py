"""
A whole working day of an office with retailCRM and a UIS account: two shops, five managers, some
ninety calls, statuses, clicks, a restart at noon, and a CRM that is over its limit now and then.
At its end every call is in the CRM once, every card was shown to whom it was for, and all sides agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

from shared.clock import ManualClock
from shared.runtime.platform import Choice
from tests.acceptance.day_kit import MANAGERS, SHOPS, Day, Manager, Step, site_text
from tests.contract.retailcrm_server import RetailCrm, retail_crm
from tests.contract.uis_kit import an_account
from tests.scenario.conftest import choice, free_ports  # noqa: F401  fixtures
from tests.scenario.edge_kit import Exchange, Office, an_office

#: Half past eight in Moscow, on a Monday.
MORNING = datetime(2100, 1, 4, 5, 30, tzinfo=UTC)
AT_ONCE = "{after: 60s}"
IN_TEN_MINUTES = "{after: 60s, upload: {every: 10m}}"
#: Who is whose customer: two of each manager.
CUSTOMERS = {f"7921000{n:04}": MANAGERS[n % len(MANAGERS)] for n in range(10)}
#: Whom a letter of the shop has them call at once; they are nobody's in particular.
READERS = tuple(f"7921100{n:04}" for n in range(56))
ANNA, BEN, CARL, DORA, EVE = MANAGERS


def customer_of(manager: Manager, which: int = 0) -> str:
    return [number for number, known in CUSTOMERS.items() if known is manager][which]


def mixed(day: Day, kinds: Iterator[str], shops: Iterator[str]) -> list[list[Step]]:
    """Calls that go on at once, as long as there are managers who are free for another."""
    free = [manager for manager in MANAGERS if day.statuses[manager] == "free"]
    calls: list[list[Step]] = []
    while len(free) > 1:
        kind, shop = next(kinds), next(shops)
        first, talk = free.pop(0), 20 + 7 * len(free)
        match kind:
            case "manager":
                calls.append(day.to_manager(customer_of(first), shop, first, talk))
            case "queue":
                group = [first, free.pop(0)]
                calls.append(day.to_queue(day.stranger(), shop, group, talk))
            case "missed":
                calls.append(day.to_queue(day.stranger(), shop, [first, free.pop(0)], 0))
            case "transfer":
                calls.append(day.transferred(customer_of(first, 1), shop, first, free.pop(0)))
            case "click":
                calls.append(day.click(first, customer_of(first), shop, talk))
            case "busy":
                calls.append(day.click(first, day.stranger(), shop, 0))
    # Whose manager has his dinner waits for anybody.
    for away in (m for m in MANAGERS if day.statuses[m] != "free"):
        if free:
            contact = customer_of(away, 1)
            calls.append(day.to_queue(contact, next(shops), [free.pop(0)], 25))
    return calls


async def registered(office: Office) -> None:
    async def is_registered() -> bool:
        return len(office.crm.codes()) == len(MANAGERS)

    await office.until(is_registered, of="the module")


async def is_told_who_is_unknown(office: Office) -> bool:
    """The site has an agent whose user the CRM does not have."""
    status, module = await office.ask("GET", "/v1/crm/shop/telephony")
    return status == 200 and bool(module["unknown"] == ["99"])


async def uploaded(day: Day) -> None:
    """All calls so far are in the CRM, a minute and a half later at most."""
    for _ in range(90):
        await day.office.sent()
        if set(day.crm.calls) >= set(day.table):
            break
        await day.office.pass_time(1, step=timedelta(milliseconds=100))
    assert set(day.crm.calls) == set(day.table)


async def morning(day: Day, kinds: Iterator[str], shops: Iterator[str]) -> None:
    """Each call goes up at once."""
    changes = {
        1: ((DORA, "dinner", "crm"), (EVE, "busy", "pbx")),
        2: ((DORA, "free", "crm"),),
        3: ((EVE, "free", "api"), (ANNA, "break", "crm")),
        4: ((ANNA, "free", "pbx"), (BEN, "busy", "api")),
        5: ((BEN, "free", "crm"),),
    }
    for number in range(6):
        await day.until(9 + number // 2, 30 * (number % 2))
        for manager, status, where in changes.get(number, ()):
            await day.does(manager, status, where)
        if number == 2:
            day.crm.limited["call/event"] = 1
            day.crm.over_limit = 2
        if number == 4:
            day.crm.lose_answers = 1
        await day.play(*mixed(day, kinds, shops))
        await uploaded(day)
    assert not +day.crm.limited
    assert day.crm.over_limit == day.crm.lose_answers == 0


async def afternoon(day: Day, kinds: Iterator[str], shops: Iterator[str]) -> None:
    """Calls go up every ten minutes."""
    for number, hour in enumerate((13, 14, 15)):
        await day.until(hour, 1)
        await day.does(CARL, ("dinner", "free", "break")[number], ("pbx", "crm", "api")[number])
        before = set(day.crm.calls)
        await day.play(*mixed(day, kinds, shops))
        await day.until(hour, 9)
        assert set(day.crm.calls) == before, "not before ten past"
        await day.until(hour, 10)
        await uploaded(day)


async def the_rush(day: Day, shops: Iterator[str]) -> None:
    """More calls than a request takes, within ten minutes; the CRM's answer gets lost once."""
    await day.until(16, 0)
    await uploaded(day)
    batches = len(day.crm.batches)
    day.crm.lose_answers = 1
    phones = cycle(m for m in MANAGERS if day.statuses[m] == "free")
    calls = [
        day.to_queue(contact, next(shops), [next(phones)], 0, routed=False) for contact in READERS
    ]
    await day.play(*calls, apart=8)
    await day.until(16, 10)
    await uploaded(day)
    # The one whose answer was lost goes again.
    await day.office.until(lambda: len(day.crm.batches) >= batches + 3, of="the repeat")
    sizes = day.crm.batches[batches:]
    assert Counter(sizes) - Counter((50, 6)) in (Counter((50,)), Counter((6,)))


async def a_code_is_taken_out(day: Day) -> None:
    """Somebody edits the module in the CRM: callmesh says whom no card reaches, and mends it."""
    await day.until(16, 25)
    telephony = day.crm.telephony
    assert telephony is not None
    rows = telephony["additionalCodes"]
    telephony["additionalCodes"] = [row for row in rows if row["userId"] != EVE.user]
    day.unknown.add(EVE)
    await day.play(day.to_queue(day.stranger(), "shop1", [DORA, EVE], 30))

    async def module() -> dict[str, Any]:
        """Nothing while the mesh has no time to say."""
        status, found = await day.office.ask("GET", "/v1/crm/shop/telephony")
        return dict(found) if status == 200 else {}

    async def is_told() -> bool:
        return [one["code"] for one in (await module()).get("unreached", [])] == [EVE.extension]

    await day.office.until(is_told, of="the code that the CRM does not know")
    await day.until(17, 40)

    async def is_mended() -> bool:
        return day.crm.codes().get(EVE.extension) == EVE.user

    await day.office.until(is_mended, of="the module")
    assert any("code 105 is missing" in text for text in (await module())["mended"])
    day.unknown.clear()
    await day.play(day.to_manager(customer_of(EVE), "shop2", EVE, 30))


async def the_end(day: Day) -> None:
    await day.until(18, 0)
    await uploaded(day)
    await day.until(19, 0)
    assert day.crm.calls.keys() == day.table.keys()
    assert not (found := day.differences()), "\n".join(found)
    assert day.shown() == day.cards
    assert await day.agree()
    # Each once: but for those whose answer was lost, which it knew when they came again.
    lost = sum(day.crm.batches) - len(day.table)
    assert 0 < lost <= 50 + len(MANAGERS)
    assert await day.office.platform.bus.dead_letters.list() == []
    _, audit = await day.office.ask("GET", "/v1/audit?action=dial&limit=100")
    outcomes = Counter((one["key"], one["outcome"]) for one in audit["entries"])
    assert outcomes == {("crm shop", "done"): day.clicks}
    _, dials = await day.office.ask("GET", "/v1/dials?limit=100")
    assert len(dials["dials"]) == day.clicks
    assert Counter(dial["state"] for dial in dials["dials"]) == {
        "ended": day.kinds["click"],
        "failed": day.kinds["busy"],
    }
    assert {dial["shop"] for dial in dials["dials"]} == {*SHOPS}
    assert len(day.uis.asked("start.employee_call")) == day.clicks
    assert set(day.kinds) == {"manager", "queue", "missed", "transfer", "click", "busy"}
    assert 80 <= len(day.table) <= 120


async def test_a_working_day(choice: Choice) -> None:  # noqa: F811  the fixture
    clock = ManualClock(MORNING)
    kinds = cycle(("manager", "queue", "click", "missed", "transfer", "busy", "click"))
    shops = cycle(SHOPS)
    async with an_account() as account, retail_crm() as crm:
        uis = Exchange(account, clock, *(manager.employee for manager in MANAGERS))
        a_crm_with_people(crm)
        day = Day(clock, uis, crm)
        site = site_text(uis, crm, AT_ONCE)
        async with an_office(choice, clock, uis, crm, site=site) as office:
            day.in_office(office)
            await registered(office)
            await day.office.until(lambda: is_told_who_is_unknown(office), of="user 99")
            await morning(day, kinds, shops)
            # One talks on over the restart, another has just hung up.
            await day.until(11, 59)
            longest = day.to_queue(day.stranger(), "shop1", [BEN], 400)
            await day.play(longest[:3], day.to_queue(day.stranger(), "shop2", [ANNA], 5))
            assert len(day.crm.calls) == len(day.table) - 1

        site = site_text(uis, crm, IN_TEN_MINUTES)
        async with an_office(choice, clock, uis, crm, site=site) as office:
            day.in_office(office)
            await day.play(longest[3:])
            await day.until(12, 20)
            await uploaded(day)
            await afternoon(day, kinds, shops)
            await the_rush(day, shops)
            await a_code_is_taken_out(day)
            await the_end(day)


def a_crm_with_people(crm: RetailCrm) -> None:
    for manager in MANAGERS:
        crm.add_user(manager.user, email=f"m{manager.user}@acme.example")
    for number, manager in CUSTOMERS.items():
        crm.add_customer(f"Customer {number[-2:]}", f"+{number}", manager_id=manager.user)
    for number in READERS:
        crm.add_customer(f"Reader {number[-2:]}", f"+{number}")

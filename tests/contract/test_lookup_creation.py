"""Unknown callers become contacts: once, and only where all speaks for it; over both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from services.lookup.cards import CardTeller
from services.lookup.handlers import (
    Deps,
    create_contact,
    learn_of_answer,
    learn_of_end,
    resolve_caller,
    router,
)
from services.lookup.store import MAKINGS, MakingBook, MakingDocument
from shared.bus.embedded import EmbeddedBus
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallAnswered, CallEnded, Direction, Party
from shared.contracts.contacts import (
    ContactCard,
    ContactChanged,
    ContactCreated,
    ContactResolved,
    ContactUnknown,
    CreateContact,
    CrmUser,
)
from shared.contracts.envelope import Command, Event, Message, wrap
from shared.errors import BadSetting, MeshError, Rejected, Throttled, Unavailable
from shared.observe.metrics import Metrics
from shared.site.book import SiteBook
from shared.site.documents import SITES
from shared.sqlite import SqliteFile
from shared.testing.builders import NOON, a_call
from shared.testing.waiting import eventually
from tests.contract.lookup_kit import JANE, NOBODY, Desk, a_card, desk_on

SECOND = timedelta(seconds=1)
WANTED = CreateContact(call_id="c1", connection="zoho", number=NOBODY)


class Teller(ServicePublisher):
    """Keeps what it has published."""

    def __init__(self, bus: EmbeddedBus, clock: ManualClock, told: list[Message[Any]]) -> None:
        super().__init__(bus, service="lookup", clock=clock)
        self._told = told

    async def publish(self, body: Event | Command, **about: Any) -> Message[Any]:
        message = await super().publish(body, **about)
        self._told.append(message)
        return message


class Lookup:
    """Replicas of the service's handlers; ``told`` is what they publish."""

    def __init__(self, desk: Desk, db: SqliteFile, clock: ManualClock) -> None:
        self.desk = desk
        self.clock = clock
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        self.told: list[Message[Any]] = []
        self.site = SiteBook(desk.store.collection(SITES), desk.clock, poll=SECOND)
        self.deps = self.replica()

    def heard(self, kind: type[Any]) -> list[Any]:
        return [message.body for message in self.told if isinstance(message.body, kind)]

    def replica(self) -> Deps:
        return self.desk.lookup(self.site, Teller(self.bus, self.clock, self.told))

    async def apply(self, create: dict[str, Any] | None, **crm: Any) -> None:
        await self.desk.apply(
            self.site,
            crm=[{"name": "zoho", "template": "zoho", "create": create, **crm}],
            agents=[{"extension": "101", "email": "ann@acme.example"}],
        )

    async def order(self, deps: Deps | None = None, *, call: str = "c1") -> None:
        wanted = WANTED.model_copy(update={"call_id": call})
        await create_contact(deps or self.deps, said(wanted, call))


def said(body: Any, key: str = "k") -> Message[Any]:
    return wrap(body, source="test", tenant="acme", occurred_at=NOON, key=key)


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def lookup(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Lookup]:
    url = request.getfixturevalue("mongo_url") if request.param == "mongo" else None
    db = SqliteFile(None)
    await db.open()
    async with desk_on(request.param, clock, url) as desk:
        found = Lookup(desk, db, clock)
        await found.apply({"module": "Contacts"})
        await found.bus.start()
        yield found
        await found.bus.stop(drain=SECOND)
    await db.close()


# -- which calls -----------------------------------------------------------------------------

UNKNOWN_CALL = a_call(caller=Party(number=NOBODY, name="Ada Lovelace"))
ANSWER = CallAnswered(call_id="c1", pbx="main", leg_id="1", callee=Party(extension="101"))
END = CallEnded(call_id="c1", pbx="main")


async def hear(deps: Deps, *events: Event) -> None:
    handlers: dict[type[Event], Any] = {
        type(UNKNOWN_CALL): resolve_caller,
        CallAnswered: learn_of_answer,
        CallEnded: learn_of_end,
    }
    for event in events:
        await handlers[type(event)](deps, said(event, type(event).__name__))


async def ordered(lookup: Lookup, *events: Event) -> list[CreateContact]:
    """What is ordered when *events* came, each by another replica and then again."""
    for event in events:
        await hear(lookup.replica(), event)
    for event in events:
        await hear(lookup.deps, event)
    orders: list[CreateContact] = lookup.heard(CreateContact)
    return orders


class HangingTeller:
    """A CRM whose cards are due, for its phones rang before the call came, and that hangs."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def heard(self, *_: Any) -> None:
        await self.answers.wait()
        raise Unavailable("the store is away")


async def test_who_calls_is_told_while_a_crm_that_shows_cards_hangs(lookup: Lookup) -> None:
    teller = HangingTeller()
    deps = replace(lookup.deps, cards=cast(CardTeller, teller))
    hearing = asyncio.create_task(hear(deps, UNKNOWN_CALL))
    await eventually(lambda: bool(lookup.heard(ContactUnknown)))
    assert not hearing.done()
    teller.answers.set()
    # What went wrong with the cards is not lost: the message comes again.
    with pytest.raises(Unavailable):
        await hearing


@pytest.mark.parametrize("answered_first", [False, True])
async def test_an_unknown_caller_who_was_spoken_to_is_added(
    lookup: Lookup, answered_first: bool
) -> None:
    events = [ANSWER, UNKNOWN_CALL] if answered_first else [UNKNOWN_CALL, ANSWER]
    await ordered(lookup, *events)
    (order,) = lookup.heard(CreateContact)
    assert order == CreateContact(
        call_id="c1",
        connection="zoho",
        number=NOBODY,
        display_name="Ada Lovelace",
        extension="101",
    )


@pytest.mark.parametrize(
    ("create", "call", "rest"),
    [
        (None, UNKNOWN_CALL, [ANSWER, END]),
        ({"module": "Contacts"}, UNKNOWN_CALL, [END]),
        (
            {"module": "Contacts"},
            UNKNOWN_CALL,
            [ANSWER.model_copy(update={"own_phone": True}), END],
        ),
        (
            {"module": "Contacts"},
            a_call(direction=Direction.OUTBOUND, caller=Party(extension="101"), dialled=NOBODY),
            [ANSWER, END],
        ),
        # May be a phone of ours that the site does not list.
        ({"module": "Contacts"}, a_call(caller=Party(number="2045")), [ANSWER, END]),
    ],
    ids=["switched off", "nobody answered", "only our own phone", "outbound", "short number"],
)
async def test_who_is_not_added(
    lookup: Lookup, create: dict[str, Any] | None, call: Event, rest: list[Event]
) -> None:
    await lookup.apply(create)
    assert await ordered(lookup, call, *rest) == []


async def test_a_missed_call_counts_where_the_administrator_says_so(lookup: Lookup) -> None:
    await lookup.apply({"module": "Contacts", "answered_only": False})
    await ordered(lookup, UNKNOWN_CALL, END)
    assert [order.extension for order in lookup.heard(CreateContact)] == [None]


async def test_a_known_caller_is_not_added(lookup: Lookup) -> None:
    lookup.desk.crm.cards = [a_card("1", phones=(NOBODY,))]
    await hear(lookup.deps, UNKNOWN_CALL, ANSWER, END)
    assert lookup.heard(ContactResolved)
    assert not lookup.heard(CreateContact)


def test_a_question_of_routing_never_leads_to_a_contact() -> None:
    """Only calls do; routing's questions do not pass through this service."""
    received = {contract.contract_name for contract in router.contracts}
    assert not any(name.startswith("routing.") for name in received)


# -- one contact -----------------------------------------------------------------------------


async def test_the_call_gets_the_contact_that_was_made_for_it(lookup: Lookup) -> None:
    await hear(lookup.deps, UNKNOWN_CALL)
    await lookup.order()
    (created,), (resolved,) = lookup.heard(ContactCreated), lookup.heard(ContactResolved)
    assert created.contact == resolved.contact
    assert (resolved.call_id, resolved.contact.contact_id) == ("c1", "new1")
    # And nobody is told any more that nobody has the number.
    lookup.told.clear()
    await hear(lookup.deps, UNKNOWN_CALL)
    assert lookup.heard(ContactResolved)


async def test_it_belongs_to_the_agent_who_spoke(lookup: Lookup) -> None:
    ann = CrmUser(user_id="u7", display_name="Ann", email="Ann@ACME.example")
    await lookup.deps.users.keep("acme", "zoho", (ann,))
    wanted = WANTED.model_copy(update={"extension": "101", "display_name": "Ada"})
    await create_contact(lookup.deps, said(wanted))
    (new,) = lookup.desk.crm.created
    assert (new.owner_id, new.display_name, new.number.e164) == ("u7", "Ada", NOBODY)


@pytest.mark.parametrize("lags", [False, True])
async def test_two_replicas_with_two_calls_of_one_number_make_one_contact(
    lookup: Lookup, lags: bool
) -> None:
    """Also where the CRM's search does not show yet what was written."""
    lookup.desk.crm.lags = lags
    calls = [(lookup.replica(), f"c{n}") for n in range(4)]

    async def handled(deps: Deps, call: str) -> None:
        """As the bus does: again, until it is done."""
        with suppress(Unavailable):
            await lookup.order(deps, call=call)

    await asyncio.gather(*(handled(*one) for one in calls))
    for one in calls:
        await handled(*one)
    assert len(lookup.desk.crm.created) == 1
    assert {r.call_id for r in lookup.heard(ContactResolved)} == {"c0", "c1", "c2", "c3"}
    assert {r.contact.contact_id for r in lookup.heard(ContactResolved)} == {"new1"}
    assert len({c.call_id for c in lookup.heard(ContactCreated)}) == 1


async def test_who_holds_the_right_holds_up_the_others(lookup: Lookup) -> None:
    lookup.desk.crm.open.clear()
    first = asyncio.create_task(lookup.order(lookup.replica(), call="c1"))
    await eventually(lambda: len(lookup.desk.crm.searches) == 1)
    with pytest.raises(Unavailable, match="somebody is making"):
        await lookup.order(lookup.replica(), call="c2")
    lookup.desk.crm.open.set()
    await first
    assert len(lookup.desk.crm.created) == 1


async def test_the_right_of_a_replica_that_died_ends(lookup: Lookup, clock: ManualClock) -> None:
    lookup.desk.crm.open.clear()
    first = asyncio.create_task(lookup.order(lookup.replica()))
    await eventually(lambda: len(lookup.desk.crm.searches) == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    lookup.desk.crm.open.set()
    with pytest.raises(Unavailable):
        await lookup.order()
    await clock.advance(timedelta(seconds=60))
    await lookup.order()
    assert len(lookup.desk.crm.created) == 1


async def test_a_contact_that_may_have_been_made_is_searched_for_first(
    lookup: Lookup, clock: ManualClock
) -> None:
    crm = lookup.desk.crm
    crm.lags, crm.lost = True, Unavailable("the connection was cut")
    with pytest.raises(Unavailable, match="not known"):
        await lookup.order()
    crm.lost = None
    # Too early: the search does not show it yet.
    with pytest.raises(Unavailable):
        await lookup.order(lookup.replica(), call="c2")
    crm.index()
    await clock.advance(timedelta(seconds=60))
    await lookup.order()
    assert len(crm.created) == 1
    assert lookup.heard(ContactResolved)[0].contact.contact_id == "new1"
    # It came through, and is told of as every other.
    assert [told.contact.contact_id for told in lookup.heard(ContactCreated)] == ["new1"]


async def test_a_contact_that_was_made_while_the_store_went_away_is_told_of(
    lookup: Lookup, clock: ManualClock
) -> None:
    class CutOff(MakingBook):
        async def made(self, mine: MakingDocument, contact: ContactCard) -> None:
            raise Unavailable("the store is away")

    replica = lookup.replica()
    cut_off = CutOff(lookup.desk.store.collection(MAKINGS), clock)
    dying = replace(replica, maker=replace(replica.maker, makings=cut_off))
    with pytest.raises(Unavailable, match="store"):
        await lookup.order(dying)
    with pytest.raises(Unavailable, match="somebody is making"):
        await lookup.order()
    await clock.advance(timedelta(seconds=60))
    await lookup.order()

    assert len(lookup.desk.crm.created) == 1
    (created,) = lookup.heard(ContactCreated)
    (changed,) = lookup.heard(ContactChanged)
    assert (created.call_id, created.contact.contact_id) == ("c1", "new1")
    assert changed.numbers == (NOBODY,)


async def test_the_same_order_again_tells_the_same(lookup: Lookup, clock: ManualClock) -> None:
    """Its replica died before it was done."""
    lookup.desk.crm.lags = True
    await lookup.order()
    await clock.advance(timedelta(hours=1))
    await lookup.order(lookup.replica())
    assert len(lookup.desk.crm.created) == 1
    assert len(lookup.told) == 6
    # The bus drops the second of each.
    assert len({message.id for message in lookup.told}) == 3


@pytest.mark.parametrize("failure", [Throttled("slower"), Rejected("no right")])
async def test_what_the_crm_refused_may_be_tried_again_at_once(
    lookup: Lookup, failure: MeshError
) -> None:
    crm = lookup.desk.crm
    crm.failure = failure
    with pytest.raises(type(failure)):
        await lookup.order()
    crm.failure = None
    await lookup.order()
    assert len(crm.created) == 1


async def test_somebody_who_was_added_meanwhile_is_taken(lookup: Lookup) -> None:
    await hear(lookup.deps, UNKNOWN_CALL)
    lookup.desk.crm.cards = [a_card("7", phones=(NOBODY,))]
    await lookup.order()
    assert not lookup.desk.crm.created
    assert not lookup.heard(ContactCreated)
    assert lookup.heard(ContactResolved)[0].contact.contact_id == "7"


async def test_who_may_be_in_a_module_that_could_not_be_searched_is_not_added(
    lookup: Lookup,
) -> None:
    lookup.desk.crm.refused = "no scope"
    await lookup.order()
    assert not lookup.desk.crm.created


async def test_a_template_that_cannot_create_says_so(lookup: Lookup) -> None:
    lookup.desk.crm.creates = False
    with pytest.raises(BadSetting, match="cannot create Contacts"):
        await lookup.order()


@pytest.mark.parametrize("number", ["101", "anonymous", "", "2045"])
async def test_an_order_for_a_number_of_ours_or_for_none_makes_nobody(
    lookup: Lookup, number: str
) -> None:
    order = WANTED.model_copy(update={"number": number})
    await create_contact(lookup.deps, said(order))
    assert not lookup.desk.crm.searches


async def test_an_order_that_comes_after_it_was_switched_off_makes_nobody(
    lookup: Lookup,
) -> None:
    await lookup.apply(None)
    await lookup.order()
    assert not lookup.desk.crm.searches


# -- several with one number -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("choose", "first", "ambiguous"),
    [("first", "1", False), ("recent", "2", False), ("owner", "1", False), ("ask", "1", True)],
)
async def test_a_call_from_a_number_of_several_tells_them_all(
    lookup: Lookup, choose: str, first: str, ambiguous: bool
) -> None:
    await lookup.apply(None, choose=choose)
    lookup.desk.crm.cards = [
        a_card("1", changed_at=NOON),
        a_card("2", changed_at=NOON + SECOND),
        a_card("3"),
    ]
    await hear(lookup.deps, a_call(caller=Party(number=JANE)))
    (told,) = lookup.heard(ContactResolved)
    assert told.contact.contact_id == first
    assert sorted(card.contact_id for card in told.candidates) == ["1", "2", "3"]
    assert told.ambiguous is ambiguous


def test_the_change_that_a_new_contact_is_goes_to_every_replica() -> None:
    assert any(route.contract is ContactChanged and route.live for route in router.routes)

"""What Asterisk asks by FastAGI, and what its channel is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from services.routing.faces import FastAgiFace, variables
from shared.clock import ManualClock
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import DecideRoute, Destination, RouteDecision, RouteReason
from shared.errors import ContractError, Forbidden
from shared.ids import call_id
from shared.pbx.asterisk.fastagi import AgiQuestion
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.models import Site
from shared.site.pbx import AsteriskPbx
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore

TO_SUPPORT = RouteDecision(
    destination=Destination.parse("queue:support"), reason=RouteReason.ROW_MATCHED, priority=10
)


@dataclass
class Desk:
    """Decides everything alike, and keeps what it was asked."""

    asked: list[tuple[str, DecideRoute, str]] = field(default_factory=list)

    async def decide(self, tenant: str, asked: DecideRoute, *, face: str) -> RouteDecision:
        self.asked.append((tenant, asked, face))
        return TO_SUPPORT


@pytest.fixture
async def site(clock: ManualClock) -> AsyncIterator[SiteBook]:
    """Two Asterisks: each asks from its own network, one from a third as well."""
    db = SqliteFile(None)
    await db.open()
    sites = SqliteStore(db, clock).collection(SITES)
    pbx = tuple(
        AsteriskPbx.model_validate(
            {
                "name": name,
                "kind": "asterisk",
                "host": "127.0.0.1",
                "username": "callmesh",
                "secret": "sealed:s",
                "askers": askers,
                "trunks": ["trunk"],
            }
        )
        for name, askers in (
            ("berlin", ["10.0.0.0/24", "10.0.9.0/24"]),
            ("paris", ["10.0.1.0/24", "10.0.9.0/24"]),
        )
    )
    found = Site(tenant="acme", pbx=pbx)
    await sites.put(
        SiteDocument(
            key="acme", tenant="acme", site=found, changed_at=clock.now(), changed_by="test"
        )
    )
    book = SiteBook(sites, clock, poll=timedelta(seconds=1))
    await book.refresh()
    yield book
    await db.close()


def asks(*arguments: str, script: str = "route", peer: str = "10.0.0.5") -> AgiQuestion:
    return AgiQuestion(
        peer=peer,
        script=script,
        caller="447700900123",
        caller_name="Customer",
        did="442079460000",
        uniqueid="1795244075.0",
        linkedid="1795244074.0",
        arguments=arguments,
    )


@pytest.mark.parametrize(
    ("arguments", "did", "dtmf", "ivr", "collected"),
    [
        ((), "442079460000", "", None, False),
        (("4420",), "4420", "", None, False),
        (("", "12#"), "442079460000", "12#", None, False),
        (("4420", "-"), "4420", "", None, True),
        (("4420", "", "account"), "4420", "", "account", False),
        (("4420", "7", "account", "more"), "4420", "7", "account", False),
    ],
)
async def test_arguments_have_their_places(
    site: SiteBook,
    arguments: tuple[str, ...],
    did: str,
    dtmf: str,
    ivr: str | None,
    *,
    collected: bool,
) -> None:
    desk = Desk()

    told = await FastAgiFace(desk, site).decide(asks(*arguments))

    assert told == variables(TO_SUPPORT, again=bool(dtmf or ivr or collected))
    ((tenant, asked, face),) = desk.asked
    assert (tenant, face) == ("acme", "fastagi")
    assert asked == DecideRoute(
        pbx="berlin",
        call_id=call_id("acme", "berlin", "1795244074.0"),
        did=did,
        caller="447700900123",
        dtmf=dtmf,
        ivr=ivr,
        collected=collected,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("4420", "1;2"), "the digits are none: send up to 32"),
        (("4420", "1" * 33), "the digits are none"),
        (("4420", "", "Main Menu"), "ivr is no name of a menu: send one as a rule's `ivrs`"),
        (("4420", "", "a" * 65), "ivr is no name"),
    ],
)
async def test_what_cannot_be_read_is_said_and_decided_by_nobody(
    site: SiteBook, arguments: tuple[str, ...], words: str
) -> None:
    desk = Desk()

    with pytest.raises(ContractError, match=words):
        await FastAgiFace(desk, site).decide(asks(*arguments))
    assert desk.asked == []


async def test_a_number_without_end_is_cut_and_a_line_break_taken_out(site: SiteBook) -> None:
    desk = Desk()
    await FastAgiFace(desk, site).decide(asks("4" * 4000 + "\n", ""))
    await FastAgiFace(desk, site).decide(asks("44\r\n20"))

    assert [asked.did for _, asked, _ in desk.asked] == ["4" * 64, "44 20"]


async def test_a_call_without_an_id_is_decided_and_not_kept_with_another(site: SiteBook) -> None:
    desk = Desk()
    question = AgiQuestion(
        peer="10.0.0.5",
        script="route",
        caller="",
        caller_name="",
        did="4420",
        uniqueid="",
        linkedid="",
        arguments=(),
    )
    await FastAgiFace(desk, site).decide(question)

    assert desk.asked[0][1].call_id is None


@pytest.mark.parametrize(
    ("script", "peer", "pbx"),
    [
        ("route", "10.0.1.5", "paris"),
        ("/route/acme/paris/", "10.0.9.5", "paris"),
        ("route/acme/berlin?x=1", "10.0.9.5", "berlin"),
    ],
)
async def test_who_asks_is_told_by_address_and_script(
    site: SiteBook, script: str, peer: str, pbx: str
) -> None:
    desk = Desk()
    await FastAgiFace(desk, site).decide(asks(script=script, peer=peer))

    assert desk.asked[0][1].pbx == pbx


@pytest.mark.parametrize(
    ("script", "peer"),
    [
        ("route", "10.0.9.5"),  # of two
        ("route", "192.0.2.1"),
        ("route/acme/berlin", "10.0.1.5"),  # from the other's network
        ("route/acme", "10.0.0.5"),
        ("other/acme/berlin", "10.0.0.5"),
        ("", "10.0.0.5"),
    ],
)
async def test_who_may_not_ask_is_told_what_to_say(site: SiteBook, script: str, peer: str) -> None:
    desk = Desk()

    with pytest.raises(Forbidden, match="say route/TENANT/PBX, and list the address"):
        await FastAgiFace(desk, site).decide(asks(script=script, peer=peer))
    assert desk.asked == []


@pytest.mark.parametrize(("peer", "may"), [("10.0.1.9", True), ("192.0.2.1", False)])
async def test_an_address_may_ask_or_not(site: SiteBook, peer: str, *, may: bool) -> None:
    assert FastAgiFace(Desk(), site).may_ask(peer) is may


def test_what_is_empty_is_said_to_who_asks_again_and_might_have_more_from_before() -> None:
    once, again = (variables(TO_SUPPORT, again=again) for again in (False, True))

    assert set(once) == {"CRM_DEST", "CRM_REASON", "CRM_PRIORITY"}
    assert {again[name] for name in set(again) - set(once)} == {""}
    assert {"CRM_GREETING", "CRM_NAME", "CRM_CAUSE"} < set(again)


def test_no_value_holds_what_a_line_of_agi_cannot() -> None:
    contact = ContactCard(
        connection="zoho",
        module="Contacts",
        contact_id="1",
        display_name="Jane\r\nSET VARIABLE X",
        page_url="https://crm.example/" + "a" * 500,
    )
    decision = TO_SUPPORT.model_copy(
        update={"contact": contact, "attributes": {"CRM_NOTE": "a\x00b\x7f" + "c" * 300}}
    )
    told = variables(decision, again=False)

    assert told["CRM_NAME"] == "Jane  SET VARIABLE X"
    assert told["CRM_NOTE"].startswith("a b c")
    assert max(map(len, told.values())) == 200

"""Questions of mod_xml_curl and httapi, and the documents that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.contacts import ContactCard
from shared.contracts.routing import Destination, DestinationKind, RouteDecision, RouteReason, Tone
from shared.errors import ContractError
from shared.pbx.asking import variables_of
from shared.pbx.freeswitch.causes import _Q850
from shared.pbx.freeswitch.route import RouteByHttp, variables
from shared.pbx.port import RawHook

FACE = RouteByHttp()
ASKED = {
    "hostname": "pbx1",
    "section": "dialplan",
    "tag_name": "",
    "key_name": "",
    "key_value": "",
    "Unique-ID": "00000000-0000-4000-8000-000000000001",
    "Channel-Call-UUID": "00000000-0000-4000-8000-000000000001",
    "Caller-Caller-ID-Number": "447700900123",
    "Caller-Destination-Number": "442079460000",
    "Caller-Context": "public",
    "Hunt-Caller-ID-Number": "447700900123",
    "Hunt-Destination-Number": "442079460000",
    "Hunt-Context": "public",
    "variable_sip_from_display": 'A "B" <C> & D',
}
HTTAPI = {
    "session_id": "00000000-0000-4000-8000-000000000001",
    "hostname": "pbx1",
    "crm_did": "442079460000",
    "crm_caller": "+447700900123",
    "crm_digits": "42#",
}
TO_SUPPORT = RouteDecision(
    destination=Destination.parse("queue:support"), reason=RouteReason.ROW_MATCHED, rule="main"
)
NO_RULE = RouteDecision(reason=RouteReason.NO_RULE)
DIGITS_WANTED = RouteDecision(reason=RouteReason.DIGITS_WANTED, greeting="custom/welcome")
OUR_NAMES = set(variables_of(NO_RULE))


def found_in(document: Element, path: str) -> Element:
    found = document.find(path)
    assert found is not None, path
    return found


def actions(document: Element) -> list[tuple[str | None, str]]:
    found = document.findall("section/context/extension/condition/action")
    return [(action.get("application"), action.get("data", "")) for action in found]


def actions_of(decision: RouteDecision) -> list[tuple[str | None, str]]:
    return actions(fromstring(FACE.reply(decision, posted(ASKED)).body))


def posted(fields: Mapping[str, str]) -> RawHook:
    return RawHook(body=urlencode(fields).encode(), received_at=datetime(2026, 1, 1, tzinfo=UTC))


def got(fields: Mapping[str, str]) -> RawHook:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return RawHook(method="GET", query=fields, received_at=now)


@pytest.mark.parametrize("form", [posted, got])
def test_xml_curl_asks_by_post_or_get(form: object) -> None:
    question = FACE.question(posted(ASKED) if form is posted else got(ASKED))

    assert question.did == "442079460000"
    assert question.caller == "447700900123"
    assert question.call == "00000000-0000-4000-8000-000000000001"


def test_httapi_asks_with_digits() -> None:
    question = FACE.question(posted(HTTAPI))

    assert (question.did, question.caller) == ("442079460000", "+447700900123")
    assert (question.dtmf, question.call) == ("42#", HTTAPI["session_id"])
    assert (question.ivr, question.collected) == (None, False)


@pytest.mark.parametrize(
    ("digits", "dtmf", "collected"),
    [("", "", False), ("7", "7", False), ("-", "", True), ("1;x", "", True), ("1" * 33, "", True)],
)
def test_who_was_asked_for_digits_is_not_asked_again(
    digits: str, dtmf: str, *, collected: bool
) -> None:
    """Httapi asks again at once where it is refused, so that what is no digits is none entered."""
    question = FACE.question(posted(HTTAPI | {"crm_ivr": "account", "crm_digits": digits}))

    assert question.ivr == "account"
    assert (question.dtmf, question.collected) == (dtmf, collected)


def test_a_menu_that_has_no_name_is_refused() -> None:
    with pytest.raises(ContractError, match="ivr is no name of a menu"):
        FACE.question(posted(HTTAPI | {"crm_ivr": "Main Menu"}))


def test_the_second_question_of_a_menu_belongs_to_its_call() -> None:
    asked = HTTAPI | {"Caller-Context": "crm_to_greeting", "crm_ivr": "account"}

    assert FACE.question(posted(asked)).call == HTTAPI["session_id"]


def test_a_plus_sign_that_nobody_encoded_is_one_again() -> None:
    hook = RawHook(
        body=b"section=dialplan&Caller-Destination-Number=+442079460000",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )

    assert FACE.question(hook).did == "+442079460000"


def test_the_dialplan_sends_the_call_to_its_place_in_the_context_that_was_asked_for() -> None:
    reply = FACE.reply(TO_SUPPORT, posted(ASKED))
    document = fromstring(reply.body)

    assert (reply.status, reply.content_type) == (200, "text/xml")
    assert document.attrib == {"type": "freeswitch/xml"}
    assert found_in(document, "section").get("name") == "dialplan"
    assert found_in(document, "section/context").get("name") == "public"
    assert actions(document) == [
        ("set", "crm_dest=queue:support"),
        ("set", "crm_reason=row_matched"),
        ("set", "crm_rule=main"),
        ("set", "crm_url="),
        ("set", "crm_name="),
        ("set", "crm_greeting="),
        ("set", "crm_priority="),
        ("set", "crm_voicemail="),
        ("set", "crm_cause="),
        ("transfer", "support XML crm_to_queue"),
    ]


def test_what_goes_beside_the_destination_is_set_on_the_channel() -> None:
    decision = TO_SUPPORT.model_copy(
        update={
            "priority": 10,
            "voicemail": False,
            "attributes": {"CRM_TIER": "Gold, ${x}", "CRM_DEST": "mine", "x y": "1"},
        }
    )
    found = dict(data.split("=", 1) for what, data in actions_of(decision) if what == "set")

    assert (found["crm_priority"], found["crm_voicemail"]) == ("10", "no")
    assert found["crm_tier"] == "Gold    x "
    assert found["crm_dest"] == "queue:support"
    assert set(found) == {name.lower() for name in OUR_NAMES} | {"crm_tier"}


@pytest.mark.parametrize(
    ("tone", "cause"),
    [
        ("busy", "USER_BUSY"),
        ("congestion", "NORMAL_CIRCUIT_CONGESTION"),
        ("unobtainable", "UNALLOCATED_NUMBER"),
        ("none", "NORMAL_CLEARING"),
    ],
)
def test_a_call_is_hung_up_with_the_cause_of_its_tone(tone: str, cause: str) -> None:
    decision = RouteDecision(
        destination=Destination.parse(f"hangup:{tone}"), reason=RouteReason.ROW_MATCHED
    )

    assert _Q850[cause] == Tone(tone).cause
    assert actions_of(decision)[-1] == ("hangup", cause)
    work = found_in(fromstring(FACE.reply(decision, posted(HTTAPI)).body), "work")
    assert [(tag.tag, tag.attrib) for tag in work] == [("hangup", {"cause": cause})]


def test_a_caller_who_is_to_enter_digits_goes_where_they_are_taken() -> None:
    """With the number that was called, by which the second question is asked."""
    document = fromstring(FACE.reply(DIGITS_WANTED, posted(HTTAPI)).body)

    assert document.findtext("variables/crm_greeting") == "custom/welcome"
    assert found_in(document, "work/execute").attrib == {
        "application": "transfer",
        "data": "442079460000 XML crm_to_greeting",
    }


def test_a_number_that_no_dialplan_takes_is_not_asked_about_again() -> None:
    asked = HTTAPI | {"crm_did": "44 ${x}"}
    work = found_in(fromstring(FACE.reply(DIGITS_WANTED, posted(asked)).body), "work")

    assert [tag.tag for tag in work] == ["break"]


def test_httapi_gets_variables_and_the_same_transfer() -> None:
    document = fromstring(FACE.reply(TO_SUPPORT, posted(HTTAPI)).body)

    assert document.attrib == {"type": "xml/freeswitch-httapi"}
    assert document.findtext("variables/crm_dest") == "queue:support"
    execute = found_in(document, "work/execute")
    assert execute.attrib == {"application": "transfer", "data": "support XML crm_to_queue"}


def test_without_a_destination_freeswitch_goes_on_with_its_own_files() -> None:
    document = fromstring(FACE.reply(NO_RULE, posted(ASKED)).body)
    assert found_in(document, "section").get("name") == "result"
    assert found_in(document, "section/result").get("status") == "not found"

    work = found_in(fromstring(FACE.reply(NO_RULE, posted(HTTAPI)).body), "work")
    assert [tag.tag for tag in work] == ["break"]


@pytest.mark.parametrize("kind", [k for k in DestinationKind if k is not DestinationKind.HANGUP])
def test_each_kind_of_destination_has_its_context(kind: DestinationKind) -> None:
    decision = RouteDecision(
        destination=Destination(kind=kind, target="+44_x.1-2"), reason=RouteReason.ROW_MATCHED
    )

    assert f"+44_x.1-2 XML crm_to_{kind}".encode() in FACE.reply(decision, posted(ASKED)).body


def test_a_call_on_its_way_to_a_place_is_not_sent_round_in_circles() -> None:
    """FreeSWITCH asks for every context, for those that a decision leads to as well."""
    asked = posted(ASKED | {"Hunt-Context": "crm_to_queue", "Hunt-Destination-Number": "support"})

    assert b"not found" in FACE.reply(TO_SUPPORT, asked).body
    assert FACE.question(asked).call is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"section": "directory"}, "bind its URL to `dialplan` alone"),
        ({"section": "dialplan"}, "without Caller-Destination-Number"),
        ({}, "without Caller-Destination-Number"),
        (HTTAPI | {"exiting": "true"}, "the call is over"),
    ],
)
def test_what_is_no_question_is_refused_with_what_to_change(
    fields: dict[str, str], words: str
) -> None:
    with pytest.raises(ContractError, match=words):
        FACE.question(posted(fields))


def test_an_endless_question_is_refused() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for body in (b"a=1&" * 5_001, b"x" * 1_048_577):
        with pytest.raises(ContractError, match="over"):
            FACE.question(RawHook(body=body, received_at=now))


def a_decision(name: str, page: str) -> RouteDecision:
    contact = ContactCard(
        connection="zoho", module="Contacts", contact_id="1", display_name=name, page_url=page
    )
    return TO_SUPPORT.model_copy(update={"contact": contact})


@given(name=st.text(max_size=60), page=st.text(max_size=60))
def test_nothing_from_a_crm_is_expanded_by_a_dialplan(name: str, page: str) -> None:
    decision = a_decision(name, page).model_copy(update={"attributes": {"CRM_X": name + page}})
    for name_, value in variables(decision).items():
        # An address has its commas; it is for a screen, and no part of a dial string.
        assert not set(value) & set('$\\`{}[]\r\n\x00"<>|^' + "," * (name_ != "crm_url"))
    fromstring(FACE.reply(decision, posted(ASKED)).body)
    fromstring(FACE.reply(decision, posted(HTTAPI)).body)


def test_who_is_calling_is_told() -> None:
    found = variables(a_decision("Zoë O'Neil", "https://crm.example/c/1?a=b"))

    assert found["crm_name"] == "Zoë O'Neil"
    assert found["crm_url"] == "https://crm.example/c/1?a=b"


@given(context=st.text(max_size=80), number=st.text(max_size=80), name=st.text(max_size=30))
def test_no_question_crashes_or_breaks_the_document(context: str, number: str, name: str) -> None:
    fields = ASKED | {"Hunt-Context": context, "Hunt-Destination-Number": number, name: number}
    asked = posted({k: v.encode("utf-8", "replace").decode() for k, v in fields.items()})
    try:
        FACE.question(asked)
    except ContractError:
        return
    assert fromstring(FACE.reply(TO_SUPPORT, asked).body).tag == "document"

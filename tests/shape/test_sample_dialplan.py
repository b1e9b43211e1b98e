"""What the sample dialplan must not give away; `tests/lab` shows that Asterisk 22 takes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.routing.http import RouteAsked
from shared.contracts.routing import DestinationKind, RouteDecision, RouteReason, Tone
from shared.pbx.asking import variables_of
from shared.pbx.asterisk.switchboard import CALLER_ID_VARIABLE

SAMPLE = (Path(__file__).parents[2] / "deploy" / "asterisk" / "extensions.conf").read_text()
CONTEXTS = {
    name: text
    for part in re.split(r"^\[", SAMPLE, flags=re.MULTILINE)[1:]
    for name, _, text in [part.partition("]")]
}
OUR_PHONES_ONLY = '${IF($["${CHANNEL(endpoint)}" != "${CM_TRUNK}"]?T)}'


def test_nobody_outside_can_send_a_call_on() -> None:
    """``T``: who calls may; ``t``: who is called may, which a line outside never gets."""
    options = re.findall(
        r"(Dial\([^,]*,\d+|Queue\([^,]*),(.*?)(?:,,,\d+)?\)$", SAMPLE, re.MULTILINE
    )

    assert len(options) == 4
    for what, given in options:
        may = "" if "@${CM_TRUNK}" in what else "t"
        assert given == may + OUR_PHONES_ONLY


def test_the_customer_sees_the_number_of_the_click_or_the_usual_one() -> None:
    """It comes by the manager interface: nothing but its digits goes on."""
    outbound = CONTEXTS["outbound"]
    usual = outbound.index("Set(CALLERID(num)=${CM_NUMBER})")
    without = outbound.index("GotoIf($[${LEN(${CRM_CALLER_ID})} = 0]?dial)")
    of_the_click = outbound.index("Set(CALLERID(num)=${FILTER(0-9,${CRM_CALLER_ID})})")

    assert usual < without < of_the_click < outbound.index("n(dial),Dial(")
    assert CALLER_ID_VARIABLE == "CRM_CALLER_ID"


def test_each_kind_of_destination_and_each_tone_has_its_place() -> None:
    assert {f"crm-to-{kind}" for kind in DestinationKind} <= set(CONTEXTS)
    assert set(re.findall(r"^exten => (\w+),1,", CONTEXTS["crm-to-hangup"], re.MULTILINE)) == set(
        Tone
    )


def test_a_menu_asks_by_its_name_and_what_an_earlier_one_took_is_forgotten() -> None:
    """Without its name it would be answered as the number was, and be played again."""
    asking = re.findall(r"^.*\n.*\n.*Goto\(crm-ask,.*$", CONTEXTS["crm-to-ivr"], re.MULTILINE)

    assert asking == [
        (
            "exten => account,1,Set(CRM_IVR=${EXTEN})\n"
            " same => n,Set(CRM_DTMF=)\n"
            " same => n,Goto(crm-ask,s,1)"
        )
    ]


@pytest.mark.parametrize(("context", "asks"), [("crm-ask", "AGI("), ("crm-ask-http", "${CURL(")])
def test_before_a_question_nothing_of_the_last_answer_is_left_and_a_circle_ends(
    context: str, asks: str
) -> None:
    before, _, after = CONTEXTS[context].partition(asks)
    emptied = re.findall(r"(CRM_\w+)=[,)]", before)
    answered = set(variables_of(RouteDecision(reason=RouteReason.NO_RULE)))

    assert set(emptied) == {name for name in answered if f"${{{name}}}" in SAMPLE}
    assert "Set(CM_ASKED=$[0${CM_ASKED} + 1])" in before
    assert re.findall(r"CM_ASKED} > (\d)\]\?(crm-dispatch,s,\w+)", before) == [
        ("9", "crm-dispatch,s,lost"),
        ("8", "crm-dispatch,s,1"),
    ]
    assert "Goto(s,1)" in after


def test_the_question_says_what_it_is_about_in_the_places_of_its_arguments() -> None:
    assert "AGI(${CM_AGI},${CRM_DID},${CRM_DTMF},${CRM_IVR})" in CONTEXTS["crm-ask"]
    parameters = re.findall(r"[=&](\w+)=\$\{(?:URIENCODE|CM_PBX)", CONTEXTS["crm-ask-http"])
    known = {field.alias or name for name, field in RouteAsked.model_fields.items()}

    assert set(parameters) == known - {"as"}


def test_what_callmesh_answers_is_part_of_no_expression_before_it_is_cleaned() -> None:
    """An expression within `$[…]` is computed, whatever it is made of; CRM_DEST is cleaned first."""
    answered = set(variables_of(RouteDecision(reason=RouteReason.NO_RULE))) - {"CRM_DEST"}
    cleaned = re.sub(r"\$\{(LEN\(|FILTER\([^$]*,)\$\{\w+\}\)\}", "", SAMPLE)

    expressions = re.findall(r"\$\[.*?\]", cleaned)
    assert len(expressions) > 10
    assert not [e for e in expressions if any(f"{{{name}}}" in e for name in answered)]

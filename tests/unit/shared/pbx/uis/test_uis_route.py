"""A scenario asks for the way, and is answered in its own words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr

from shared.contracts.routing import Destination, RouteDecision, RouteReason
from shared.errors import BadSetting, ContractError
from shared.pbx.port import RawHook, RouteQuestion
from shared.pbx.uis.route import UisRoute
from shared.pbx.uis.settings import UisSettings

NOW = datetime(2026, 3, 4, 7, 15, tzinfo=UTC)
SETTINGS = UisSettings(
    virtual_number="74993720692",
    access_token=SecretStr("t"),
    branches={"queue:support": 1, "ivr:104": 0, "hangup:busy": 4, "greeting:welcome": 5},
    numbers={"extension:101": "+79261234567", "extension:102": "no number"},
)
ASKED = {
    "cdr_id": "9001",
    "start_time": "2026-03-04 10:15:00",
    "input_result": "None",
    "numa": "79260000000",
    "numb": "74993720692",
}


@pytest.mark.parametrize(
    "request_",
    [
        RawHook(method="GET", query=ASKED, received_at=NOW),
        RawHook(body=urlencode(ASKED).encode(), received_at=NOW),
        RawHook(body=json.dumps(ASKED | {"input_result": None}).encode(), received_at=NOW),
    ],
    ids=["query", "form", "json"],
)
def test_a_question_in_every_form(request_: RawHook) -> None:
    """``cdr_id`` is a leg's: it is not taken for the call's id."""
    wanted = RouteQuestion(did="74993720692", caller="79260000000")
    assert UisRoute(SETTINGS).question(request_) == wanted


@pytest.mark.parametrize(
    ("more", "dtmf", "call", "collected"),
    [
        ({"input_result": "12#", "call_session_id": "31451224"}, "12#", "31451224", False),
        ({"input_result": "1;DROP", "call_session_id": "../x"}, "", None, True),
        ({"input_result": "None"}, "", None, False),
        ({"input_result": "None", "collected": "1"}, "", None, True),
        ({"input_result": "-"}, "", None, True),
    ],
)
def test_digits_and_the_calls_id_are_taken_where_they_are_some(
    more: dict[str, str], dtmf: str, call: str | None, *, collected: bool
) -> None:
    found = UisRoute(SETTINGS).question(RawHook(query=ASKED | more, received_at=NOW))
    assert (found.dtmf, found.call, found.collected) == (dtmf, call, collected)


def test_a_menu_is_named_in_the_address() -> None:
    hook = RawHook(query={"ivr": "account"}, body=urlencode(ASKED).encode(), received_at=NOW)
    assert UisRoute(SETTINGS).question(hook).ivr == "account"
    with pytest.raises(ContractError, match="ivr is no name of a menu"):
        UisRoute(SETTINGS).question(RawHook(query=ASKED | {"ivr": "Ac/count"}, received_at=NOW))


def test_a_question_without_the_number_that_was_called_is_none() -> None:
    with pytest.raises(ContractError, match="numb"):
        UisRoute(SETTINGS).question(RawHook(query={"numa": "1"}, received_at=NOW))


@pytest.mark.parametrize(
    ("destination", "default_branch", "answer"),
    [
        ("queue:support", None, {"returned_code": 1}),
        ("ivr:104", None, {"returned_code": 0}),
        ("extension:101", None, {"phones": ["79261234567"]}),
        ("external:+79267654321", None, {"phones": ["79267654321"]}),
        ("external:somebody", None, {}),
        ("extension:102", None, {}),
        ("hangup:busy", None, {"returned_code": 4}),
        ("hangup:none", 9, {"returned_code": 9}),
        ("group:sales", None, {}),
        ("group:sales", 9, {"returned_code": 9}),
        (None, None, {}),
        (None, 9, {"returned_code": 9}),
    ],
)
def test_a_decision_in_the_words_of_a_scenario(
    destination: str | None, default_branch: int | None, answer: dict[str, object]
) -> None:
    settings = UisSettings(
        virtual_number="74993720692",
        access_token=SecretStr("t"),
        branches=SETTINGS.branches,
        numbers=SETTINGS.numbers,
        default_branch=default_branch,
    )
    decision = RouteDecision(
        destination=Destination.parse(destination) if destination else None,
        reason=RouteReason.ROW_MATCHED if destination else RouteReason.NO_RULE,
    )
    reply = UisRoute(settings).reply(decision, RawHook(query=ASKED, received_at=NOW))
    assert (reply.status, json.loads(reply.body)) == (200, answer)
    assert reply.content_type.startswith("application/json")


@pytest.mark.parametrize(("greeting", "answer"), [("welcome", {"returned_code": 5}), ("other", {})])
def test_digits_are_taken_in_a_branch(greeting: str, answer: dict[str, object]) -> None:
    decision = RouteDecision(reason=RouteReason.DIGITS_WANTED, greeting=greeting)
    reply = UisRoute(SETTINGS).reply(decision, RawHook(query=ASKED, received_at=NOW))

    assert json.loads(reply.body) == answer


@pytest.mark.parametrize(
    ("data_api", "wanted"),
    [
        ("https://dataapi.uiscom.ru/v2.0", "https://app.uiscom.ru"),
        ("https://dataapi.callgear.com/v2.0", "https://app.callgear.com"),
        ("http://127.0.0.1:8080/v2.0", "http://127.0.0.1:8080"),
    ],
)
def test_recordings_are_at_the_brands_application(data_api: str, wanted: str) -> None:
    assert (
        UisSettings(
            virtual_number="74993720692", access_token=SecretStr("t"), data_api=data_api
        ).recordings_url()
        == wanted
    )


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", ""])
def test_a_zone_that_is_none_is_said(zone: str) -> None:
    with pytest.raises(BadSetting, match="time zone"):
        UisSettings(
            virtual_number="74993720692", access_token=SecretStr("t"), zone=zone
        ).time_zone()


def test_the_token_is_in_no_representation() -> None:
    assert "hush" not in repr(
        UisSettings(virtual_number="74993720692", access_token=SecretStr("hush"))
    )

"""The signature of Yeastar's webhooks, and the question of its Call Flow Designer."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.contracts.routing import Destination, RouteDecision, RouteReason
from shared.errors import ContractError, Forbidden
from shared.pbx.port import Phones, RawHook, RouteQuestion
from shared.pbx.yeastar.hooks import YeastarHooks
from shared.pbx.yeastar.route import YeastarRoute
from tests.unit.shared.pbx.yeastar.yeastar_kit import BEGAN, EVENTS, steps

SECRET = "PugghhExampleExampleExampleExamp"
BODY = steps("answered")[1].record
TO_QUEUE = RouteDecision(
    destination=Destination.parse("queue:6400"),
    reason=RouteReason.ROW_MATCHED,
    priority=5,
    attributes={"CRM_TIER": "GOLD"},
)
NOWHERE = RouteDecision(reason=RouteReason.NO_RULE)


def signed(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def hook(body: bytes, **headers: str) -> RawHook:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawHook(body=body, headers=named, received_at=BEGAN)


def hooks() -> YeastarHooks:
    return YeastarHooks(EVENTS, SecretStr(SECRET))


def test_a_signed_webhook_comes_in() -> None:
    hooks().verify(hook(BODY, x_signature=signed(BODY)))


@pytest.mark.parametrize(
    "given_hook",
    [
        hook(BODY),
        hook(BODY, x_signature=""),
        hook(BODY, x_signature="é"),
        hook(BODY, x_signature=signed(BODY, "another")),
        hook(BODY + b" ", x_signature=signed(BODY)),
        hook(b"", x_signature=signed(BODY)),
    ],
)
def test_a_forged_webhook_does_not_and_the_secret_is_not_said(given_hook: RawHook) -> None:
    with pytest.raises(Forbidden) as caught:
        hooks().verify(given_hook)

    assert SECRET not in caught.value.message
    assert signed(given_hook.body) not in caught.value.message


def test_without_a_secret_the_key_in_the_url_is_enough() -> None:
    YeastarHooks(EVENTS, None).verify(hook(BODY))


def test_a_webhook_by_get_says_what_to_set() -> None:
    with pytest.raises(ContractError, match="Request Method to POST"):
        hooks().read(hook(b""), Phones())


# -- the question ----------------------------------------------------------------------------------


def asked(
    body: bytes = b"", content_type: str = "", query: Mapping[str, str] | None = None
) -> RawHook:
    return RawHook(
        method="POST" if body else "GET",
        content_type=content_type,
        query=query or {},
        body=body,
        received_at=BEGAN,
    )


@pytest.mark.parametrize(
    "request_",
    [
        asked(query={"did": "5503301", "ani": "15812340987", "callid": "1.1", "dtmf": "2"}),
        asked(query={"to": "5503301", "from": "15812340987", "call": "1.1", "digits": "2"}),
        asked(
            b"did=5503301&ani=15812340987&callid=1.1&userInput=2",
            "application/x-www-form-urlencoded",
        ),
        asked(
            b'{"did":"5503301","from":15812340987,"call_id":"1.1","dtmf":"2"}', "application/json"
        ),
        asked(
            b'{"ani":"15812340987","callid":"1.1","dtmf":2}',
            "application/json",
            {"did": "5503301"},
        ),
    ],
)
def test_a_question_is_read_in_every_form(request_: RawHook) -> None:
    assert YeastarRoute().question(request_) == RouteQuestion(
        did="5503301", caller="15812340987", dtmf="2", call="1.1"
    )


def test_a_withheld_number_is_none() -> None:
    question = YeastarRoute().question(asked(query={"did": "5503301", "ani": " "}))

    assert (question.caller, question.call) == ("", None)


@pytest.mark.parametrize(
    "bad",
    [
        asked(),
        asked(query={"ani": "15812340987"}),
        asked(query={"did": "1\r\n2"}),
        asked(query={"did": "1", "dtmf": "x"}),
        asked(query={"did": "1", "dtmf": "1" * 33}),
        asked(query={"did": "1", "ivr": "Main menu"}),
        asked(b"{", "application/json"),
        asked(b"[]", "application/json"),
        asked(b"\xff\xfe=1", "application/x-www-form-urlencoded"),
        asked(b"&".join([b"a=1"] * 100), "application/x-www-form-urlencoded"),
        asked(b" " * 20_000, "application/json"),
    ],
)
def test_a_bad_question_says_what_to_change(bad: RawHook) -> None:
    with pytest.raises(ContractError) as caught:
        YeastarRoute().question(bad)

    assert caught.value.message


@given(st.binary(max_size=200), st.sampled_from(["", "application/json", "x-form-urlencoded"]))
def test_no_body_breaks_the_question(body: bytes, content_type: str) -> None:
    try:
        question = YeastarRoute().question(asked(body, content_type, {"did": "1"}))
    except ContractError:
        return
    assert question.did.isprintable()


@pytest.mark.parametrize(
    ("query", "dtmf", "collected"),
    [
        ({}, "", False),
        ({"dtmf": "12"}, "12", False),
        ({"dtmf": "-"}, "", True),
        ({"dtmf": "", "collected": "1"}, "", True),
        ({"dtmf": "", "collected": "0"}, "", False),
    ],
)
def test_a_flow_says_that_the_caller_was_asked(
    query: dict[str, str], dtmf: str, *, collected: bool
) -> None:
    question = YeastarRoute().question(asked(query={"did": "1", "ivr": "account"} | query))

    assert (question.ivr, question.dtmf, question.collected) == ("account", dtmf, collected)


NOTHING = {
    "destination": "",
    "kind": "",
    "target": "",
    "greeting": "",
    "name": "",
    "url": "",
    "priority": "",
    "voicemail": "",
    "attributes": {},
}


@pytest.mark.parametrize(
    ("decision", "as_json", "as_text"),
    [
        (
            TO_QUEUE,
            {
                "destination": "queue:6400",
                "kind": "queue",
                "target": "6400",
                "reason": "row_matched",
                "priority": "5",
                "attributes": {"CRM_TIER": "GOLD"},
            },
            b"queue:6400",
        ),
        (NOWHERE, {"reason": "no_rule"}, b""),
        (
            RouteDecision(reason=RouteReason.DIGITS_WANTED, greeting="welcome"),
            {
                "destination": "greeting:welcome",
                "reason": "digits_wanted",
                "greeting": "welcome",
            },
            b"greeting:welcome",
        ),
    ],
)
def test_an_answer_is_json_or_one_text(
    decision: RouteDecision, as_json: dict[str, object], as_text: bytes
) -> None:
    reply = YeastarRoute().reply(decision, asked(query={"did": "1"}))
    text = YeastarRoute().reply(decision, asked(query={"did": "1", "format": "text"}))

    assert (reply.status, reply.content_type) == (200, "application/json")
    assert orjson.loads(reply.body) == NOTHING | as_json
    assert (text.status, text.body) == (200, as_text)

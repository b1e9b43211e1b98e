"""Notifications and reports of a UIS account in, finished calls out, as calls.md has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dialer.domain import step
from services.ingest.domain import ends_first
from shared.contracts.calls import CallEvent
from shared.contracts.dialing import DialReason, DialState, DialStep
from shared.ids import call_id
from shared.pbx.port import HookReading, Phones, RawHook, Sighting
from shared.pbx.uis.legs import legs_of
from shared.pbx.uis.notifications import UisHooks
from shared.pbx.uis.report import Report
from tests.calltable import CallTable, call_of

SAMPLES = Path(__file__).parents[4] / "data" / "pbx" / "uis"
MOSCOW = ZoneInfo("Europe/Moscow")
HOOKS = UisHooks("acme", "uis", MOSCOW)
PHONES = Phones(extensions=frozenset({"101", "102"}), users={"25": "101", "26": "102"})
RECEIVED = datetime(2026, 3, 4, 7, 16, tzinfo=UTC)
TABLE = CallTable(SAMPLES / "calls.md")
READ = [(row["call"], row["read"]) for row in TABLE.rows]
NAMES = sorted(path.name.removesuffix(".hooks.jsonl") for path in SAMPLES.glob("*.hooks.jsonl"))


def bodies(name: str) -> list[bytes]:
    return (SAMPLES / f"{name}.hooks.jsonl").read_bytes().splitlines()


def read(body: bytes, phones: Phones = PHONES) -> HookReading:
    hook = RawHook(content_type="application/json", body=body, received_at=RECEIVED)
    return HOOKS.read(hook, phones)


def by_hooks(name: str) -> list[Sighting]:
    return [sighting for body in bodies(name) for sighting in read(body).sightings]


def by_report(name: str) -> list[Sighting]:
    answer = json.loads((SAMPLES / f"{name}.report.json").read_text())
    rows = answer["result"]["data"]
    session = str(rows[0]["call_session_id"])
    report = Report("acme", "uis", session, PHONES, "https://app.uiscom.ru")
    return report.sightings(legs_of(rows, session, MOSCOW))


@pytest.mark.parametrize(("name", "source"), READ)
def test_a_call_adds_up_to_its_row(name: str, source: str) -> None:
    sightings = by_hooks(name) if source != "report" else []
    if source != "hooks":
        sightings += by_report(name)

    assert [TABLE.row(call_of(sightings), name, source)] == TABLE.rows_of(name, source)


def test_every_sample_is_in_the_table() -> None:
    with_report = {path.name.removesuffix(".report.json") for path in SAMPLES.glob("*.report.json")}
    wanted = {(name, "hooks") for name in NAMES}
    wanted |= {(name, source) for name in with_report for source in ("report", "both")}
    assert set(READ) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_every_hook_is_of_the_one_call_and_the_same_again_says_the_same(name: str) -> None:
    for body in bodies(name):
        once, again = read(body), read(body)
        assert once == again
        keys = [sighting.key for sighting in once.sightings]
        assert len(keys) == len(set(keys))
        session = json.loads(body).get("call_session_id") or 31451232
        of = {getattr(sighting.body, "call_id", None) for sighting in once.sightings}
        assert of <= {call_id("acme", "uis", str(session))}


@given(data=st.data(), name=st.sampled_from(NAMES))
def test_hooks_in_any_order_and_doubled_make_the_same_call(data: st.DataObject, name: str) -> None:
    told = bodies(name)
    order = data.draw(st.permutations(told + data.draw(st.lists(st.sampled_from(told)))))

    shuffled = [sighting for body in order for sighting in read(body).sightings]

    found, wanted = call_of(shuffled), call_of(by_hooks(name))
    if name == "vendors_nested_bodies":
        # No body tells when the call began, so it began with the first that came.
        found = found.model_copy(update={"started_at": wanted.started_at})
    assert found == wanted


@pytest.mark.parametrize("name", [name for name, source in READ if source == "both"])
def test_hooks_and_report_name_legs_alike(name: str) -> None:
    """Else a leg would be there twice."""
    hooked = {leg.leg_id for leg in call_of(by_hooks(name)).legs}
    reported = {leg.leg_id for leg in call_of(by_report(name)).legs}

    assert hooked <= reported


def test_only_the_ends_of_calls_ask_for_a_report() -> None:
    asked = {
        json.loads(body)["event"]: list(read(body).reports) for body in bodies("inbound_answered")
    }
    assert asked.pop("ended") == ["31451224"]
    assert set(map(tuple, asked.values())) == {()}
    assert [list(read(body).reports) for body in bodies("inbound_lost")][-1] == ["31451225"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("click_agent_no_answer", DialReason.AGENT_NO_ANSWER),
        ("click_customer_busy", DialReason.CUSTOMER_BUSY),
        ("click_given_up", DialReason.CANCELLED),
    ],
)
def test_why_a_click_came_to_nothing_is_known_by_the_report(name: str, reason: DialReason) -> None:
    dial: DialStep = (DialState.REQUESTED, None)
    for found in (by_hooks(name), by_report(name)):
        for sighting in ends_first(found):
            assert isinstance(sighting.body, CallEvent)
            dial = step(*dial, sighting.body) or dial

    assert dial == (DialState.FAILED, reason)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("operator_disconnects", "cancelled"), ("subscriber_disconnects", "busy")],
)
def test_who_hangs_up_before_a_contact_answers_gave_up_or_was_rejected(
    reason: str, outcome: str
) -> None:
    rows = json.loads((SAMPLES / "click_given_up.report.json").read_text())["result"]["data"]
    own, contact = legs_of([rows[0], {**rows[1], "finish_reason": reason}], "237859084", MOSCOW)

    assert (own.outcome, contact.outcome) == ("answered", outcome)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("operator_disconnects", "busy"), ("subscriber_disconnects", "cancelled")],
)
def test_who_hangs_up_before_an_employee_answers_rejected_or_gave_up(
    reason: str, outcome: str
) -> None:
    rows = json.loads((SAMPLES / "inbound_lost.report.json").read_text())["result"]["data"]
    (leg,) = legs_of(
        [{**row, "finish_reason": reason} for row in rows if row["is_operator"]][:1],
        "31451225",
        MOSCOW,
    )

    assert leg.outcome == outcome


def test_a_leg_of_another_call_is_no_leg_of_this_one() -> None:
    rows = json.loads((SAMPLES / "inbound_answered.report.json").read_text())["result"]["data"]
    strange = [{**row, "call_session_id": 999} for row in rows]

    assert legs_of(rows + strange, "31451224", MOSCOW) == legs_of(rows, "31451224", MOSCOW)
    assert legs_of(strange, "31451224", MOSCOW) == []


def test_a_leg_whose_id_is_longer_than_an_id_breaks_no_report() -> None:
    rows = json.loads((SAMPLES / "inbound_lost.report.json").read_text())["result"]["data"]
    nobodys = {"id": "7" * 256, "employee_id": None, "employee_phone_number": None}
    report = Report("acme", "uis", "31451225", PHONES, "https://app.uiscom.ru")

    found = report.sightings(legs_of([{**row, **nobodys} for row in rows], "31451225", MOSCOW))

    assert call_of(found).disposition == "missed"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["7" * 300, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(data=st.data())
def test_a_report_with_anything_in_it_breaks_nothing(data: st.DataObject) -> None:
    rows = json.loads((SAMPLES / "inbound_transferred.report.json").read_text())["result"]["data"]
    for row in rows:
        for name in data.draw(st.lists(st.sampled_from(sorted(row)), max_size=4)):
            moments = st.sampled_from(["9999-12-31 23:59:59", "0001-01-01 00:00:00", "x"])
            row[name] = data.draw(JSON | moments)
    report = Report("acme", "uis", "31451226", PHONES, "https://app.uiscom.ru")

    report.sightings(legs_of(rows, "31451226", MOSCOW))
    assert legs_of(data.draw(JSON), "31451226", MOSCOW) == []

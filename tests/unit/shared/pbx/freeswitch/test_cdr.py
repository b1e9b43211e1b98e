"""Records of mod_json_cdr in, finished calls out, as tests/data/pbx/freeswitch/records.md has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.calls import CallEnded, CallStarted, Direction, EndKnown
from shared.errors import ContractError
from shared.pbx.freeswitch.cdr import RecordHooks
from shared.pbx.port import Phones, RawHook, Sighting
from tests.calltable import CallTable, calls_of
from tests.unit.shared.pbx.freeswitch.event_streams import (
    DATA,
    PHONES,
    bodies,
    replayed,
    stream,
)

TABLE = CallTable(DATA / "records.md")
HOOKS = RecordHooks(tenant="acme", pbx="main")
AFTERWARDS = datetime.fromtimestamp(1_795_000_030, UTC)
Form = Callable[[dict[str, Any]], RawHook]


def records(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((DATA / f"{name}.cdr.json").read_text())
    return loaded


def as_json(record: dict[str, Any]) -> RawHook:
    return a_hook(json.dumps(record).encode(), "application/json")


def as_form(record: dict[str, Any]) -> RawHook:
    body = f"cdr={quote(json.dumps(record), safe='')}".encode()
    return a_hook(body, "application/x-www-form-urlencoded")


def as_base64(record: dict[str, Any]) -> RawHook:
    body = b"cdr=" + base64.b64encode(json.dumps(record).encode())
    return a_hook(body, "application/x-www-form-base64-encoded")


def encoded(record: dict[str, Any]) -> RawHook:
    """With ``encode-values``, as it is by default."""
    values = {name: quote(value, safe="") for name, value in record["variables"].items()}
    return as_json(record | {"variables": values})


def a_hook(body: bytes, content_type: str = "", now: datetime = AFTERWARDS) -> RawHook:
    return RawHook(body=body, content_type=content_type, received_at=now)


def told(name: str, form: Form = as_json, phones: Phones = PHONES) -> list[Sighting]:
    return [
        sighting
        for record in records(name)
        for sighting in HOOKS.read(form(record), phones).sightings
    ]


@pytest.mark.parametrize("form", [as_json, as_form, as_base64, encoded])
@pytest.mark.parametrize("name", TABLE.names)
def test_records_add_up_to_their_row_in_whatever_form_they_come(name: str, form: Form) -> None:
    (call,) = calls_of(told(name, form))

    assert [TABLE.row(call, name)] == TABLE.rows_of(name)
    assert call.end_known is EndKnown.REPORT


@pytest.mark.parametrize("name", TABLE.without_call)
def test_records_without_a_call_tell_nothing(name: str) -> None:
    assert told(name) == []


def test_every_record_is_in_the_table() -> None:
    names = [path.name.removesuffix(".cdr.json") for path in DATA.glob("*.cdr.json")]

    assert sorted(TABLE.names + TABLE.without_call) == sorted(names)


@pytest.mark.parametrize("name", ["answered", "gave_up", "click_to_call", "internal_call"])
def test_what_events_told_is_not_told_again(name: str) -> None:
    """The end by events is the better one; both have keys of their own."""
    events = {sighting.key for sighting in replayed(stream(name))}
    fresh = {sighting.key for sighting in told(name)} - events

    assert {key.split("/", 2)[2].split("/")[0] for key in fresh} <= {"ended", "recording"}


def test_the_same_record_again_is_the_same_sightings() -> None:
    assert [s.key for s in told("answered")] == [s.key for s in told("answered", as_base64)]


def test_the_order_behind_a_click_is_told() -> None:
    (started,) = bodies(told("click_to_call"), CallStarted)

    assert started.dial_id == "click-0001"


def test_a_call_through_a_gateway_on_the_profile_of_the_phones_needs_the_profiles_name() -> None:
    """A record names the profile of what was called, not its gateway."""
    only_gateways = Phones(trunks=frozenset({"trunk"}), extensions=PHONES.extensions)
    (started,) = bodies(told("outbound_from_phone", phones=only_gateways), CallStarted)

    assert started.direction is Direction.INTERNAL


def test_a_further_device_of_the_agent_has_no_call_of_its_own() -> None:
    agent = records("click_to_call")[0]
    agent["variables"]["origination_uuid"] = "first-device"
    slower = json.loads(json.dumps(agent))
    slower["variables"] |= {"uuid": "first-device", "hangup_cause": "LOSE_RACE"}

    found = [HOOKS.read(as_json(one), PHONES).sightings for one in (slower, agent)]
    (started,) = bodies([sighting for part in found for sighting in part], CallStarted)
    assert started.pbx_call_id == "first-device"


def test_a_clock_that_is_years_off_is_not_believed_but_lengths_are() -> None:
    now = AFTERWARDS + timedelta(days=900)
    record = records("answered")[0]
    found = HOOKS.read(a_hook(json.dumps(record).encode(), now=now), PHONES).sightings

    (ended,) = [s for s in found if isinstance(s.body, CallEnded)]
    (started,) = [s for s in found if isinstance(s.body, CallStarted)]
    assert ended.at == now
    assert ended.at - started.at == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("start", "946684800"),  # 2000-01-01: it had no time yet when the call came
        ("start", "253402300700"),
        ("answer", "253402300700"),  # it was set back before the call ended
        ("answer", "946684800"),
    ],
)
def test_a_clock_that_is_set_while_a_call_goes_on_makes_no_call_of_years(
    name: str, written: str
) -> None:
    for record in records("answered"):
        record["variables"] |= {f"{name}_epoch": written, f"{name}_uepoch": f"{written}000000"}
        found = HOOKS.read(as_json(record), PHONES).sightings

        ended_at = max(sighting.at for sighting in found)
        assert abs(ended_at - AFTERWARDS) < timedelta(minutes=1)
        assert min(sighting.at for sighting in found) >= ended_at - timedelta(seconds=5)


# -- garbage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "neither JSON nor a form field"),
        (b"{", "no JSON"),
        (b"[]", "neither JSON nor a form field"),
        (b"cdr=!!!", "neither JSON nor base64"),
        (b"cdr=" + base64.b64encode(b"[1]"), "no JSON object"),
        (b"{}", "variables.uuid is missing"),
        (b'{"variables": []}', "variables.uuid is missing"),
        (b'{"variables": {"uuid": "1"}}', "variables.direction is missing"),
        (b"{" + b" " * 5_000_000 + b"}", "over"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(body: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        HOOKS.read(a_hook(body), PHONES)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PARTS = st.sampled_from(["variables", "callflow", "app_log", "channel_data"])
TEXTS = st.sampled_from(
    ["", "0", "-1", "1e99", "9" * 40, "²", "%00", "%ff", "a%0d%0ab", "x" * 5000, "\u0000"]
)


@given(part=PARTS, odd=ODD)
def test_a_part_of_another_kind_is_no_crash(part: str, odd: object) -> None:
    read_or_refused(records("answered")[0] | {part: odd})


@given(data=st.data())
def test_odd_values_are_no_crash(data: st.DataObject) -> None:
    record = records("click_to_call")[data.draw(st.integers(0, 1))]
    flow = record["callflow"][0]
    for held in (record["variables"], flow["times"], flow["caller_profile"]):
        names = data.draw(st.lists(st.sampled_from(sorted(held)), max_size=4))
        held.update({name: data.draw(TEXTS | ODD) for name in names})

    read_or_refused(record)


def read_or_refused(record: dict[str, Any]) -> None:
    try:
        found = HOOKS.read(as_json(record), PHONES).sightings
    except ContractError:
        return
    for sighting in found:
        assert sighting.body.model_dump_json()
        assert sighting.key.startswith("main/")

from __future__ import annotations

import csv
import io
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from services.gateway.calls import sheet
from shared.contracts.history import COLUMNS
from shared.errors import ContractError

NAMES = ("call_id", "started_at", "agents", "talk_s", "contact_known", "summary")


def a_row(**changes: Any) -> dict[str, JsonValue]:
    known: dict[str, JsonValue] = {
        "call_id": "c1",
        "started_at": "2026-07-01T12:00:00.000Z",
        "agents": ["101", "102"],
        "talk_s": 12.5,
        "contact_known": True,
        "summary": None,
    }
    return known | changes


def test_a_row_is_a_line_of_rfc_4180() -> None:
    text = sheet.head(NAMES) + sheet.body([a_row(summary='said "no",\r\nthen left')], NAMES)
    assert text.decode() == (
        "call_id,started_at,agents,talk_s,contact_known,summary\r\n"
        'c1,2026-07-01T12:00:00.000Z,101;102,12.5,true,"said ""no"",\r\nthen left"\r\n'
    )


def test_times_are_in_the_zone_that_is_asked_for() -> None:
    line = sheet.body([a_row()], ("started_at",), sheet.zone_named("Europe/London"))
    assert line == b"2026-07-01T13:00:00.000+01:00\r\n"
    assert sheet.zone_named("UTC") is UTC


@pytest.mark.parametrize("name", ["", "Mars/Base", "../../etc/passwd", "/etc/passwd", "a\x00b"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ContractError, match="zone: no time zone"):
        sheet.zone_named(name)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("+447700900123", "+447700900123"),
        ("-12.5", "-12.5"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_what_a_spreadsheet_would_run_is_made_harmless(text: str, cell: str) -> None:
    assert sheet.harmless(text) == cell


def test_each_item_of_a_list_is_made_harmless() -> None:
    assert sheet.body([a_row(agents=["101", "=1"])], ("agents",)) == b"101;'=1\r\n"


@given(
    st.lists(st.tuples(st.text(), st.lists(st.text()), st.none() | st.floats(0, 1e6)), max_size=5)
)
def test_whatever_a_call_says_stays_in_its_cell(
    said: list[tuple[str, list[str], float | None]],
) -> None:
    rows = [a_row(summary=text, agents=list(agents), talk_s=talk) for text, agents, talk in said]
    found = csv.reader(io.StringIO(sheet.body(rows, NAMES).decode(), newline=""), strict=True)
    lines = list(found)
    assert len(lines) == len(rows)
    for line, (text, agents, talk) in zip(lines, said, strict=True):
        assert len(line) == len(NAMES)
        assert line[NAMES.index("summary")].removeprefix("'") == text.removeprefix("'")
        assert line[NAMES.index("talk_s")] == ("" if talk is None else str(talk))
        assert not agents or line[NAMES.index("agents")].count(";") >= len(agents) - 1


def test_every_field_can_be_written() -> None:
    row: dict[str, JsonValue] = dict.fromkeys(COLUMNS.by_name)
    assert sheet.body([row], tuple(row)).decode().count(",") == len(row) - 1

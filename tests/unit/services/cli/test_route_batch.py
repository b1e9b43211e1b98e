"""Tables of numbers as people and spreadsheets write them, and the tables that come of them."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.numbers import Line, Numbers, ResultTable, cell
from services.cli.route_batch import Tally
from services.routing.explain_batch import Outcome
from shared.errors import ContractError


def read(text: str, **more: Any) -> list[Line]:
    return list(Numbers(io.StringIO(text, newline=""), **more))


def an_outcome(**said: object) -> Outcome:
    known = {"from": "1", "did": "2", "destination": "queue:a", "reason": "row_matched"}
    return Outcome.model_validate(known | said)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_found_by_their_names(delimiter: str) -> None:
    text = "\ufeffNote,FROM,did,dtmf\r\nvip,+447700900123,4420,12#\r\n".replace(",", delimiter)

    (line,) = read(text)

    assert line.fault is None
    assert line.asked is not None
    found = line.asked.model_dump(include={"from_", "did", "dtmf", "ivr"})
    assert found == {"from_": "+447700900123", "did": "4420", "dtmf": "12#", "ivr": None}
    assert line.cells == ("vip", "+447700900123", "4420", "12#")


def test_the_number_called_is_the_lines_own_or_that_of_all() -> None:
    lines = read("from,did\n1,\n1,99\n", did="4420")

    assert [line.asked.did for line in lines if line.asked] == ["4420", "99"]


def test_a_line_without_a_number_is_a_caller_who_withholds_it() -> None:
    lines = read('from,note\n"",x\nanonymous,y\n')

    assert [line.asked.from_ for line in lines if line.asked] == ["", "anonymous"]


def test_empty_lines_are_left_out_and_cells_that_are_missing_are_empty() -> None:
    lines = read("from,did,note\n1\n\n\n2,3,x\n")

    assert [line.cells for line in lines] == [("1", "", ""), ("2", "3", "x")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1,2,3,4", "line 2: 4 cells under 3 columns"),
        ("hello,2,", "line 2: from: no number; leave it empty"),
        ("4.47701E+11,2,", "line 2: from: a spreadsheet has shortened the number"),
        ("1,2,yes please", "line 2: dtmf"),
        ("1" * 65 + ",2,", "line 2: from: String should have at most 64"),
        ("x" * 200_000, "line 2: field larger than field limit"),
        ('"' + "1,2\n" * 50_000, "field larger than field limit"),
    ],
)
def test_a_line_that_cannot_be_asked_is_a_line_with_the_fault(text: str, fault: str) -> None:
    lines = read(f"from,did,dtmf\n{text}\n7,8,9\n")

    assert fault in str(lines[0].fault)
    assert lines[0].asked is None


def test_lines_after_a_bad_one_are_read() -> None:
    lines = read("from,did\n" + "x" * 200_000 + "\n7,8\n")

    assert [line.asked is not None for line in lines] == [False, True]
    assert len(lines[0].cells) == 2


def test_the_values_of_a_bad_line_are_not_repeated_in_its_fault() -> None:
    (line,) = read("from,dtmf\n1,secret-pin\n")

    assert "secret" not in str(line.fault)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one of them is `from`"),
        ("number,did\n1,2\n", "one of them is `from`"),
        ("from,From\n1,2\n", "the column from is there twice"),
        ("x" * 200_000, "one of them is `from`"),
    ],
)
def test_a_header_says_what_is_where(text: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        read(text)


def test_bytes_that_are_no_text_come_out_as_they_came() -> None:
    raw = b"from,note\n1,M\xfcller\n"
    file = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors="surrogateescape", newline="")
    numbers, out = Numbers(file, did="2"), io.StringIO(newline="")
    table = ResultTable(out, numbers, compares=False)
    for line in numbers:
        table.add(line, an_outcome())

    assert b"1,M\xfcller,queue:a" in out.getvalue().encode(errors="surrogateescape")


# -- the table that comes of it ----------------------------------------------------------------


def test_the_table_has_what_came_in_and_what_was_decided() -> None:
    numbers = Numbers(io.StringIO("note;from\nvip;+1\nodd;hello\n", newline=""), did="2")
    out = io.StringIO(newline="")
    table = ResultTable(out, numbers, compares=True)
    lines = list(numbers)
    table.add(
        lines[0],
        an_outcome(
            rule="main", row=2, value="GOLD", took_ms=1.5, now="queue:b",
            changed=True, differs=("destination", "priority"),
        ),
    )  # fmt: skip
    table.add(lines[1], None)

    assert out.getvalue().splitlines() == [
        "note;from;destination;reason;rule;row;value;took_ms;fault;now;changed",
        "vip;+1;queue:a;row_matched;main;2;GOLD;1.5;;queue:b;destination priority",
        'odd;hello;;;;;;;"line 3: from: no number; leave it empty for a caller who withholds his";;',
    ]  # fmt: skip


def test_a_table_that_is_tried_again_has_each_column_once() -> None:
    text = "from,destination,Reason,note,now\n1,queue:old,x,keep,y\n"
    numbers, out = Numbers(io.StringIO(text, newline="")), io.StringIO(newline="")
    table = ResultTable(out, numbers, compares=False)
    table.add(next(iter(numbers)), an_outcome())

    header, row = csv.reader(out.getvalue().splitlines())
    assert header == [
        *("from", "note", "now"),
        *("destination", "reason", "rule", "row", "value", "took_ms", "fault"),
    ]
    assert row[:4] == ["1", "keep", "y", "queue:a"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'=1"),
        ("\t=1", "'=1"),
        ("＝1", "'＝1"),  # noqa: RUF001  the full-width sign
        (-5, "-5"),
        (1.5, "1.5"),
        (True, "true"),
        (None, ""),
        (["a", 1], '["a",1]'),
        ({"name": "Ä"}, '{"name":"Ä"}'),
        ("two\nlines", "two lines"),
        ("GOLD", "GOLD"),
        ("x" * 600, "x" * 500),
    ],
)
def test_a_value_of_the_crm_is_no_formula(value: Any, shown: str) -> None:
    assert cell(value) == shown


def test_numbers_that_came_in_stay_as_they_are() -> None:
    numbers, out = (
        Numbers(io.StringIO("from\n+447700900123\n", newline="")),
        io.StringIO(newline=""),
    )
    table = ResultTable(out, numbers, compares=False)
    table.add(next(iter(numbers)), an_outcome())

    assert out.getvalue().splitlines()[1].startswith("+447700900123,")


@given(st.text())
def test_no_text_is_taken_for_a_formula(text: str) -> None:
    shown = cell(text)

    assert shown[:1] not in {*"=+-@\t\r"}
    assert "\n" not in shown


@given(st.text(max_size=300))
def test_no_file_breaks_the_reading(text: str) -> None:
    try:
        lines = read(f"from,did,dtmf\n{text}")
    except csv.Error as error:
        pytest.fail(str(error))
    assert all((line.asked is None) != (line.fault is None) for line in lines)


def test_a_summary_counts_destinations_changes_and_faults() -> None:
    tally = Tally()
    for outcome in (
        an_outcome(),
        an_outcome(changed=True),
        an_outcome(destination="", reason="no_rule"),
        an_outcome(fault="the CRM did not answer"),
        Outcome.model_validate({"from": "1", "did": "2", "fault": "no rule"}),
        None,
    ):
        tally.add(outcome)

    assert (tally.lines, tally.changed, tally.faults) == (6, 1, 3)
    assert dict(tally.destinations) == {"queue:a": 3, "(no rule)": 1, "(fault)": 2}

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.jsontext import (
    MAX_DEPTH,
    MAX_DIGITS,
    SourceFloat,
    plain_numbers,
    read_json,
    write_json,
)
from shared.errors import ContractError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text",
    [
        "1.50",
        "1e3",
        "1E+3",
        "-0.0",
        "-0",
        "0.1000000000000000000001",
        "1e999",
        "634866135153775564",
        "9" * MAX_DIGITS,
        '{"a":[1.50,{"b":[]}],"c":{}}',
        '"\\n\\"\\\\é\U0001f600"',
        "[]",
        "true",
        "null",
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
    ],
)
def test_what_is_read_is_written_as_it_was(text: str) -> None:
    assert write_json(read_json(text)) == text
    assert write_json(read_json(text.encode())) == text


@given(json_values)
@settings(deadline=None, max_examples=30)
def test_every_value_comes_back(value: Any) -> None:
    written = write_json(value)

    assert read_json(written) == value
    assert json.loads(written) == value
    assert write_json(read_json(written)) == written


def test_a_number_is_a_number_and_its_text() -> None:
    price = read_json("1.50")

    assert (price, price.source, type(price)) == (1.5, "1.50", SourceFloat)
    assert copy.deepcopy(price).source == "1.50"
    assert type(read_json("7")) is int


def test_for_other_writers_there_are_plain_numbers() -> None:
    plain = plain_numbers(read_json('{"a":[1.50,"x",2]}'))

    assert plain == {"a": [1.5, "x", 2]}
    assert type(plain["a"][0]) is float


def test_the_last_of_two_keys_counts() -> None:
    assert read_json('{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: no JSON"),
        ('{"a":\n  1,}', "line 2, column 5: no JSON"),
        ("[1] 2", "line 1, column 5: no JSON"),
        ('"a\nb"', "line 1, column 3: no JSON"),
        (b'\xef\xbb\xbf["\xff"]', "line 1, column 3: not UTF-8"),
        ('["NaN",\n NaN]', "line 2, column 2: JSON has no NaN"),
        ("[-Infinity]", "line 1, column 2: JSON has no -Infinity"),
        ("[1,\n" + "9" * (MAX_DIGITS + 1) + "]", "line 2, column 1: a number has more than"),
        ("1." + "9" * MAX_DIGITS, "line 1, column 1: a number has more than"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "line 1, column 201: nested deeper"),
        ('{"[[":' * 100_000, "line 1, column 1201: nested deeper"),
        ("[" * 100_000, "line 1, column 201: nested deeper"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: bytes | str, said: str) -> None:
    with pytest.raises(ContractError) as refused:
        read_json(text)

    assert refused.value.message.startswith(said)


def test_brackets_in_a_text_are_letters() -> None:
    assert read_json('"' + "[" * 300 + '"') == "[" * 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud800"', "\ufffd"),
        (r'"\udc00x"', "\ufffdx"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (r'"\\ud800"', "\\ud800"),
    ],
)
def test_half_a_pair_is_no_letter(text: str, value: str) -> None:
    assert read_json(text) == value


def test_half_a_pair_is_written_so_that_it_can_be_sent() -> None:
    assert write_json("é\ud800").encode() == rb'"\u00e9\ud800"'


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, {1: 2}, {1, 2}, pytest.param(10**5000, id="long"), b"x"],
)
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(ContractError):
        write_json([value])


def test_a_value_that_holds_itself_is_not_written() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(ContractError, match="deeper"):
        write_json(loop)

"""What no database takes is seen at the door, with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.forms import read_form, read_json
from shared.http.storable import fault_in_body, fault_in_head


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        (b'{"a": "x\\u0000"}', "body.a", "NUL"),
        (b'{"a": {"\\u0000": 1}}', "body.a.?", "NUL"),
        (b'["a", "\\ud800"]', "body.1", "half of one"),
        (b'{"\\uDFFF": 1}', "body.?", "half of one"),
        (b'{"a b": {"<b>": [9223372036854775808]}}', "body.a b.?.0", "64 bits"),
        (b"-9223372036854775809", "body", "64 bits"),
        (b"1e400", "body", "larger than any"),
        (b"-1E+400", "body", "larger than any"),
        (b"1" * 400 + b".5", "body", "larger than any"),
        (b"[" * 65 + b"]" * 65, "body.0.0.0.0", "nested deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "body.a.a.a.a", "nested deeper than 64"),
    ],
)
def test_what_cannot_be_kept_is_found_with_its_place(body: bytes, where: str, what: str) -> None:
    fault = fault_in_body(read_json(body), body)
    assert fault is not None
    assert ".".join(map(str, fault[0])) == where
    assert what in fault[1]


@pytest.mark.parametrize(
    "body",
    [
        b'"\\\\u0000"',  # a backslash, and what stands behind it
        b'"\\ud83d\\ude00"',
        b"[9223372036854775807, -9223372036854775808]",
        b'"99999999999999999999"',
        b"1e300",
        b'{"a": "%00"}',
        b"[" * 64 + b"]" * 64,
        b"[" + b"[]," * 99 + b"[]]",
    ],
)
def test_what_only_looks_like_it_is_none(body: bytes) -> None:
    assert fault_in_body(read_json(body), body) is None


@pytest.mark.parametrize("body", [b"a=%00", b"%00=b", b"a=b%00&c=d"])
def test_a_form_has_no_nul(body: bytes) -> None:
    fault = fault_in_body(read_form(body), body)
    assert fault is not None
    assert "NUL" in fault[1]


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "\x00"])
def test_so_is_a_head(text: str) -> None:
    fault = fault_in_head({("path", "id"): "x", ("query", "number"): text})
    assert fault is not None
    assert fault[0] == ("query", "number")
    assert fault_in_head({("path", "id"): "x", ("query", "number"): "\u20ac"}) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=6,
)


@given(_JSON)
def test_whatever_passes_can_be_written_and_kept(value: Any) -> None:
    body = json.dumps(value).replace("NaN", "1e999").replace("Infinity", "1e999").encode()
    found = read_json(body)
    if fault_in_body(found, body) is not None:
        return
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    assert "\x00" not in text.encode().decode()
    assert "\\u0000" not in text.replace("\\\\", "")

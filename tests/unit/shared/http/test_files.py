"""Ranges, as RFC 9110 lays them down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.files import part_of

ETAG = '"one"'


def asked(range_: str | None, *, size: int = 100, method: str = "GET", if_range: str = "") -> str:
    headers = {"range": range_} if range_ is not None else {}
    headers |= {"if-range": if_range} if if_range else {}
    part = part_of(size, method=method, headers=headers, etag=ETAG)
    return f"{int(part.status)} {part.start}+{part.length} {part.headers.get('Content-Range', '')}"


@pytest.mark.parametrize(
    ("range_", "answer"),
    [
        (None, "200 0+100 "),
        ("bytes=0-0", "206 0+1 bytes 0-0/100"),
        ("bytes=0-9", "206 0+10 bytes 0-9/100"),
        (" Bytes=10-19 ", "206 10+10 bytes 10-19/100"),
        ("bytes=90-", "206 90+10 bytes 90-99/100"),
        ("bytes=90-1000", "206 90+10 bytes 90-99/100"),
        ("bytes=-10", "206 90+10 bytes 90-99/100"),
        ("bytes=-1000", "206 0+100 bytes 0-99/100"),
        ("bytes=100-", "416 0+0 bytes */100"),
        ("bytes=1000-2000", "416 0+0 bytes */100"),
        ("bytes=-0", "416 0+0 bytes */100"),
        # Several, other units, and what is none: the whole.
        ("bytes=0-1,5-6", "200 0+100 "),
        ("bytes=9-0", "200 0+100 "),
        ("bytes=-", "200 0+100 "),
        ("bytes=a-b", "200 0+100 "),
        ("seconds=0-1", "200 0+100 "),
        ("bytes 0-1", "200 0+100 "),
        ("bytes=\u0661-\u0662", "200 0+100 "),
        (f"bytes={'9' * 19}-", "200 0+100 "),
    ],
)
def test_one_range_is_given_and_everything_else_is_the_whole(
    range_: str | None, answer: str
) -> None:
    assert asked(range_) == answer


def test_a_part_of_another_version_is_not_given() -> None:
    assert asked("bytes=0-9", if_range=ETAG).startswith("206")
    for other in ('"two"', 'W/"one"', "Sun, 22 Nov 2026 00:00:00 GMT"):
        assert asked("bytes=0-9", if_range=other) == "200 0+100 "


def test_a_head_request_is_told_of_the_whole() -> None:
    assert asked("bytes=0-9", method="HEAD") == "200 0+100 "


@given(range_=st.text(max_size=20) | st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True))
def test_no_part_leaves_the_file(range_: str) -> None:
    part = part_of(100, method="GET", headers={"range": range_}, etag=ETAG)
    assert 0 <= part.start <= part.start + part.length <= 100

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import Direction
from shared.crm.language.functions import FUNCTIONS, Scope, plain_text
from shared.crm.language.text import Encoded, Fragment, compile_text
from shared.crm.language.values import json_value
from shared.errors import ContractError

#: Zoho's, by the template that ships.
CALL_TYPE = {"inbound answered": "Inbound", "inbound *": "Missed", "*": "Outbound"}
AT = datetime(2026, 11, 21, 6, 54, 35, 958000, UTC)
#: The vendor's example: 2022-12-31T23:59:59Z.
UNIX = 1672531199

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([400, 5000]).map(lambda digits: 10**digits),
    st.floats(),
    st.text(),
    st.text(st.characters(categories=["Cs", "Nd", "L"]), max_size=5),
    st.binary(max_size=5),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), None])),
    st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    st.timedeltas(),
)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def run(name: str, value: Any, *arguments: Any, maps: Mapping[str, Any] | None = None) -> Any:
    return FUNCTIONS[name].call(value, arguments, Scope({}, maps or {}))


# -- how a value stands in a text ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, "", id="none"),
        pytest.param("text", "text", id="text"),
        pytest.param("", "", id="empty"),
        pytest.param(True, "true", id="yes"),
        pytest.param(False, "false", id="no"),
        pytest.param(42, "42", id="whole"),
        pytest.param(-1.5, "-1.5", id="fraction"),
        pytest.param(1000.0, "1000", id="whole, as a float"),
        pytest.param(timedelta(minutes=1, seconds=15), "75", id="duration"),
        pytest.param(timedelta(seconds=75.25), "75", id="duration with a fraction"),
        pytest.param(AT, "2026-11-21T06:54:35+00:00", id="moment"),
        pytest.param(["a", 1, None], "a,1,", id="list"),
        pytest.param((), "", id="empty list"),
        pytest.param({"a": [1, None]}, '{"a":[1,null]}', id="object"),
        pytest.param(Direction.INBOUND, "inbound", id="word of ours"),
        pytest.param("a\ud800b", "a\ufffdb", id="half a character"),
    ],
)
def test_a_value_stands_in_a_text_as_people_write_it(value: Any, expected: str) -> None:
    assert plain_text(value) == expected


@given(anything)
@settings(deadline=None, max_examples=30)
def test_every_text_of_a_value_can_be_sent(value: Any) -> None:
    try:
        plain_text(value).encode()
        json_value(value)
    except ContractError:
        return


def test_what_is_nested_for_ever_breaks_the_contract() -> None:
    endless: list[Any] = []
    endless.append(endless)

    for shown in (plain_text, json_value):
        with pytest.raises(ContractError, match="nested too deep"):
            shown(endless)


# -- examples of every function -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "arguments", "expected"),
    [
        ("ToMillis", UNIX, (), 1672531199000),
        ("ToMillis", "1672531199", (), 1672531199000),
        ("ToMillis", AT, (), 1795244075958),
        ("Capitalize", "hello world", (), "Hello world"),
        ("UrlEncode", "hello world!", (), "hello%20world%21"),
        ("UrlEncode", "+44/ä", (), "%2B44%2F%C3%A4"),
        ("iso8601", AT, (), "2026-11-21T06:54:35+00:00"),
        ("iso_utc", AT.astimezone(timezone(timedelta(hours=2))), (), "2026-11-21T06:54:35Z"),
        ("utc", AT, (), "2026-11-21 06:54:35"),
        ("utc", UNIX, (), "2022-12-31 23:59:59"),
        ("local", AT, ("Europe/Berlin",), "2026-11-21 07:54:35"),
        ("local", AT, ("America/New_York",), "2026-11-21 01:54:35"),
        ("in_zone", AT, ("Europe/Berlin",), AT),
        ("earlier", AT, (3600,), AT - timedelta(hours=1)),
        ("earlier", UNIX, ("60",), datetime.fromtimestamp(UNIX - 60, UTC)),
        ("date", AT, (), "2026-11-21"),
        ("time", AT, (), "06:54:35"),
        ("unix", AT, (), 1795244075),
        ("unix_ms", AT, (), 1795244075958),
        ("aspnet_date", AT, (), "/Date(1795244075958)/"),
        ("seconds", timedelta(seconds=72.25), (), 72),
        ("seconds", timedelta(seconds=-5), (), 0),
        ("seconds", "75", (), 75),
        ("ms", timedelta(seconds=72.25), (), 72250),
        ("ms", 2, (), 2000),
        ("minutes", timedelta(seconds=60), (), 1),
        ("minutes", timedelta(seconds=61), (), 2),
        ("minutes", timedelta(0), (), 0),
        ("hours", timedelta(minutes=75), (), 1.25),
        ("hours_part", timedelta(minutes=75), (), 1),
        ("minutes_part", timedelta(minutes=75, seconds=59), (), 15),
        ("mmss", timedelta(seconds=72.25), (), "01:12"),
        ("mmss", timedelta(seconds=59.9), (), "01:00"),
        ("mmss", timedelta(minutes=75, seconds=3), (), "75:03"),
        ("mmss", 75, (), "01:15"),
        ("hh_mm", timedelta(minutes=75, seconds=59), (), "01:15"),
        ("hh_mm_ss", timedelta(minutes=75, seconds=3), (), "01:15:03"),
        ("number", "42", (), 42),
        ("number", " -1.5 ", (), -1.5),
        ("number", "1e3", (), 1000.0),
        ("number", "829914000000489099", (), 829914000000489099),
        ("text", 42, (), "42"),
        ("text", None, (), ""),
        ("boolean", "Yes", (), True),
        ("boolean", 0, (), False),
        ("lower", "ÄB", (), "äb"),
        ("upper", "äb", (), "ÄB"),
        ("trim", " a b\n", (), "a b"),
        ("default", "", ("x",), "x"),
        ("default", None, ("x",), "x"),
        ("default", [], ("x",), "x"),
        ("default", 0, ("x",), 0),
        ("default", False, ("x",), False),
        ("replace", "a-b-c", ("-", ""), "abc"),
        ("before", "anna@x.io", ("@",), "anna"),
        ("before", "anna", ("@",), "anna"),
        ("after", "anna@x.io", ("@",), "x.io"),
        ("after", "anna", ("@",), ""),
        ("first", "abcd", (2,), "ab"),
        ("first", "abcd", ("9",), "abcd"),
        ("last", "abcd", (2,), "cd"),
        ("last", "abcd", (0,), ""),
        ("substring", "abcd", (1,), "bcd"),
        ("substring", "abcd", (1, 2), "bc"),
        ("substring", "abcd", ("0", "0"), ""),
        ("substring", "abcd", (9,), ""),
        ("substring", 1234, (2, 9), "34"),
        ("substring", "\U0001f600ä", (1,), "ä"),
        ("length", "äb\U0001f600", (), 3),
        ("length", ["a", "b"], (), 2),
        ("length", None, (), 0),
        ("length", 120, (), 3),
        ("item", ["a", 2], (1,), 2),
        ("item", ["a", "b"], ("-1",), "b"),
        ("item", ["a"], (1,), None),
        ("item", [], (-1,), None),
        ("item", "abc", (0,), "abc"),
        ("item", {"a": 1}, (1,), None),
        ("digits", "+44 (0)20-٣", (), "44020"),
        ("split", "a,b", (",",), ["a", "b"]),
        ("split", "", (",",), []),
        ("join", ["a", 1], ("; ",), "a; 1"),
        ("join", "abc", (",",), "abc"),
        ("json", {"a": 'x"'}, (), '{"a":"x\\""}'),
        ("json", None, (), "null"),
        ("base64", "user:päss", (), "dXNlcjpww6Rzcw=="),
        ("md5", "abc", (), "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "abc", (), "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            "sha256",
            "abc",
            (),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "hmac_sha256",
            "what do ya want for nothing?",
            ("Jefe",),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "hmac_sha256_base64",
            "what do ya want for nothing?",
            ("Jefe",),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=",
        ),
        (
            "hmac_sha1",
            "what do ya want for nothing?",
            ("Jefe",),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        ("html_lines", "a < b\nc\r\nd", (), "a &lt; b<br>c<br>d"),
        ("html", '<a href="x">\'&', (), "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;"),
        ("nothing", "", (), None),
        ("nothing", "x", (), "x"),
    ],
)
def test_a_function_does_what_it_says(
    name: str, value: Any, arguments: tuple[Any, ...], expected: Any
) -> None:
    found = run(name, value, *arguments)

    assert found == expected
    assert type(found) is type(expected) or isinstance(found, Encoded)


def test_every_function_has_an_example() -> None:
    (mark,) = test_a_function_does_what_it_says.pytestmark
    shown = {example[0] for example in mark.args[1]}

    assert shown | {"TimeFormat", "map"} == FUNCTIONS.keys()


@given(st.timedeltas(timedelta(0), timedelta(days=10)))
@settings(deadline=None, max_examples=30)
def test_minutes_and_seconds_add_up(duration: timedelta) -> None:
    minutes, seconds = run("mmss", duration).split(":")

    assert 0 <= int(seconds) < 60
    assert abs(int(minutes) * 60 + int(seconds) - duration.total_seconds()) <= 0.5


# -- TimeFormat ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{TimeFormat .T "yyyy-MM-ddTHH:mm:ss.000Zz" "1"}}', "2022-12-31T23:59:59.000Z"),
        ("{{TimeFormat .T 'yyyy-MM-ddTHH:mm:ss-z' '1'}}", "2022-12-31T23:59:59+0000"),
        ("{{TimeFormat .T `yyyy-MM-ddTHH:mm:ssz` `0`}}", "2023-01-01T05:29:59+0530"),
        ('{{TimeFormat .T "dd.MM.yy hh:mm a"}}', "01.01.23 05:29 AM"),
        ('{{.T | TimeFormat "HH:mm:ss.SSS" 1}}', "23:59:59.000"),
        ('{{TimeFormat .T "QQ y" "1"}}', "QQ y"),
        ('{{TimeFormat .T "d.M. H:m:s h" "1"}}', "31.12. 23:59:59 11"),
        ('{{TimeFormat .T "ddd dddd MMM MMMM" "1"}}', "Sat Saturday Dec December"),
        ("{{TimeFormat .T `HH zzz`}}", "05 +05:30"),
        ("{{TimeFormat .T `HH-z` `1`}}", "23+0000"),
        ("{{TimeFormat .T `HH'hms'mm''ss'it''s'` `1`}}", "23hms59'59it's"),
        ("{{TimeFormat .T `HH 'h` `1`}}", "23 '11"),
        ('{{TimeFormat .Missing "yyyy"}}', ""),
    ],
)
def test_a_moment_is_written_by_its_format(source: str, expected: str) -> None:
    assert compile_text(source).text({"T": UNIX, "Zone": "Asia/Kolkata"}) == expected


def test_without_a_zone_a_moment_is_written_in_utc() -> None:
    assert compile_text('{{TimeFormat .T "HH z"}}').text({"T": UNIX}) == "23 +0000"


def test_a_zone_may_be_a_variable() -> None:
    variables = {"At": AT, "AccountZone": "America/Sao_Paulo"}

    assert compile_text("{{.At | local .AccountZone}}").text(variables) == "2026-11-21 03:54:35"
    assert compile_text("{{.At | in_zone .AccountZone | time}}").text(variables) == "03:54:35"


@pytest.mark.parametrize(
    "zone", ["", None, "Mars/Base", "../etc/passwd", "/etc/localtime", "a b", 7]
)
def test_what_is_no_zone_breaks_the_contract(zone: Any) -> None:
    with pytest.raises(ContractError, match="zone"):
        run("local", AT, zone)


# -- map ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("inbound answered", "Inbound"),
        ("inbound missed", "Missed"),
        ("inbound ", "Missed"),
        ("outbound answered", "Outbound"),
        ("", "Outbound"),
        ("INBOUND answered", "Outbound"),
        (None, "Outbound"),
        (42, "Outbound"),
    ],
)
def test_the_first_line_of_a_map_that_fits_gives_the_word(value: Any, expected: str) -> None:
    assert run("map", value, "call_type", maps={"call_type": CALL_TYPE}) == expected


@pytest.mark.parametrize("meaning", [1, 2.5, False, None, "7"])
def test_a_meaning_keeps_its_type(meaning: Any) -> None:
    assert run("map", "x", "m", maps={"m": {"*": meaning}}) is meaning


def test_a_value_that_fits_no_line_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="call_type has no line"):
        run("map", "internal", "call_type", maps={"call_type": {"inbound": "x"}})


def test_a_map_that_is_not_there_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="there is no map colours"):
        run("map", "red", "colours", maps={"call_type": CALL_TYPE})


@given(st.text(), st.text(st.sampled_from(list("[]!*?-\\aZ")) | st.characters(), max_size=12))
@settings(deadline=None, max_examples=30)
def test_any_pattern_fits_or_does_not(value: str, pattern: str) -> None:
    assert run("map", value, "m", maps={"m": {pattern: "hit", "*": "miss"}}) in {"hit", "miss"}


# -- nothing, and wrong types -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted(name for name in FUNCTIONS if not FUNCTIONS[name].sees_nothing)
)
def test_of_nothing_comes_nothing(name: str) -> None:
    assert FUNCTIONS[name].call(None, (), Scope({}, {})) is None


@pytest.mark.parametrize(
    ("name", "value", "arguments", "expected"),
    [
        ("mmss", "soon", (), "a duration is needed, not text"),
        ("mmss", True, (), "a duration is needed, not bool"),
        ("seconds", AT, (), "a duration is needed, not datetime"),
        ("seconds", float("nan"), (), "a duration is needed, in seconds"),
        ("seconds", 10**20, (), "a duration is needed, in seconds"),
        ("iso8601", "2026-01-01", (), "a moment is needed, not text"),
        ("iso8601", timedelta(1), (), "a moment is needed, not timedelta"),
        ("iso8601", AT.replace(tzinfo=None), (), "a moment needs its zone"),
        ("utc", UNIX * 1000, (), "not milliseconds"),
        ("utc", -1, (), "a moment is needed"),
        ("local", datetime.max.replace(tzinfo=UTC), ("Asia/Tokyo",), "out of the calendar"),
        ("number", "", (), "a number is needed, not text"),
        ("number", "1,5", (), "a number is needed, not text"),
        ("number", "٣", (), "a number is needed, not text"),
        ("number", True, (), "a number is needed, not bool"),
        ("number", "9e999", (), "a number is too large"),
        ("boolean", "maybe", (), "true or false is needed, not text"),
        ("split", "a", ("",), "an argument is empty"),
        ("before", "a", (None,), "an argument is empty"),
        ("hmac_sha256", "a", (None,), "an argument is empty"),
        ("first", "a", (-1,), "a whole number up to 100000 is needed"),
        ("first", "a", ("٣",), "a whole number"),
        ("first", "a", (1.5,), "a whole number"),
        ("substring", "a", (0, -1), "a whole number"),
        ("item", [], ("x",), "a whole number"),
        ("item", [], (-(10**9),), "a whole number"),
        ("json", float("inf"), (), "JSON has no such number"),
        pytest.param("text", 10**5000, (), "a number has too many digits", id="digits"),
        ("split", "," * 20_000, (",",), "over 10000 items"),
        ("join", ["a"] * 1000, ("x" * 2000,), "over 1000000 characters"),
    ],
)
def test_a_wrong_value_breaks_the_contract(
    name: str, value: Any, arguments: tuple[Any, ...], expected: str
) -> None:
    with pytest.raises(ContractError, match=expected):
        run(name, value, *arguments)


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [("replace", "a" * 1000, ("a", "x" * 2000)), ("join", ["a"] * 1000, ("x" * 2000,))],
    ids=["replace", "join"],
)
def test_a_text_that_is_too_long_is_not_even_made(
    name: str, value: Any, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(ContractError, match="would have over"):
        FUNCTIONS[name].run(value, arguments, Scope({}, {}))


def test_an_error_does_not_say_what_the_value_was() -> None:
    for name in ("number", "boolean", "mmss", "iso8601"):
        with pytest.raises(ContractError) as caught:
            run(name, "s3cret")
        assert "s3cret" not in caught.value.message


@given(anything, st.lists(anything, min_size=2, max_size=2))
@settings(deadline=None, max_examples=40)
def test_a_function_gives_a_value_or_breaks_the_contract(value: Any, arguments: list[Any]) -> None:
    scope = Scope({"Zone": arguments[0]}, {"call_type": CALL_TYPE})
    for name, function in FUNCTIONS.items():
        try:
            found = function.call(value, tuple(arguments[: function.most]), scope)
        except ContractError:
            continue
        # ``item`` gives what it was given, whatever is in it.
        if isinstance(found, str) and found is not value and name != "item":
            found.encode()


# -- marks --------------------------------------------------------------------------------------


def test_what_was_encoded_is_marked_until_it_is_changed() -> None:
    assert isinstance(compile_text("{{UrlEncode .A}}").value({"A": "a b"}), Encoded)
    assert not isinstance(compile_text("{{UrlEncode .A | lower}}").value({"A": "a"}), Encoded)


def test_a_fragment_reaches_the_escape_as_one() -> None:
    seen: list[str] = []

    def watch(text: str) -> str:
        seen.append(text)
        return text

    compile_text("x{{.A}}").text({"A": Fragment("(a)")}, escape=watch)
    assert isinstance(seen[0], Fragment)

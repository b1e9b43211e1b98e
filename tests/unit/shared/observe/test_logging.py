from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from shared.contracts.calls import Party
from shared.observe.logging import (
    MASK,
    LogFormat,
    configure,
    mask_number,
    mask_text,
    redact,
)

TELLING = (
    "secret",
    "client_secret",
    "token",
    "access_token",
    "refreshToken",
    "password",
    "Passwd",
    "authorization",
    "Authorisation",
    "api_key",
    "apiKey",
    "Cookie",
    "set-cookie",
    "credentials",
    "private_key",
)
#: Long and strange enough to be found again wherever it came out.
secrets = st.text("ABCDEFGHabcdefgh0123456789-_.~+/", min_size=12, max_size=30)
keys = st.sampled_from(TELLING)

Opened = Callable[..., io.StringIO]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Logging into a stream of the test's own; afterwards as it was."""
    root = logging.getLogger()  # noqa: TID251  what configure() sets is put back
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()

    def into_a_stream(**options: Any) -> io.StringIO:
        stream = io.StringIO()
        known: dict[str, Any] = {"form": LogFormat.JSON, "stream": stream}
        configure(**(known | options))
        return stream

    yield into_a_stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def shown(**event: Any) -> str:
    return json.dumps(redact(event, numbers_in_clear=False), default=str)


def fail(message: str) -> None:
    raise RuntimeError(message)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# -- secrets by their key -----------------------------------------------------------------------


@pytest.mark.parametrize("key", TELLING)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("hunter2hunter2", id="text"),
        pytest.param(["hunter2hunter2"], id="list"),
        pytest.param({"value": "hunter2hunter2"}, id="mapping"),
        pytest.param(b"hunter2hunter2", id="bytes"),
        pytest.param(734928174523, id="number"),
    ],
)
def test_a_key_that_names_a_secret_is_masked_whatever_its_value(key: str, value: Any) -> None:
    assert redact({key: value}, numbers_in_clear=True) == {key: MASK}


@pytest.mark.parametrize("header", ["X-Api-Key", "x-api-key"])
def test_the_header_of_our_own_api_keys_is_masked(header: str) -> None:
    assert "hunter2" not in shown(headers={header: "hunter2"})


@given(keys, secrets, st.integers(0, 3))
@settings(deadline=None)
def test_a_secret_under_a_telling_key_never_appears(key: str, secret: str, depth: int) -> None:
    event: Any = {key: secret}
    for level in range(depth):
        event = {"request": event} if level % 2 else {"headers": [event, "x"]}

    assert secret not in shown(**event)


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.none(), max_size=5))
@settings(deadline=None)
def test_nothing_is_left_out_of_what_is_shown(event: dict[str, Any]) -> None:
    assert redact(event, numbers_in_clear=True).keys() == event.keys()


@pytest.mark.parametrize("value", [SecretStr("hunter2"), SecretBytes(b"hunter2")])
@pytest.mark.parametrize(
    "place",
    [lambda v: v, lambda v: [v], lambda v: {"deep": {"er": v}}],
    ids=["bare", "in a list", "deep"],
)
def test_a_secret_by_its_type_is_masked_under_any_key(
    value: Any, place: Callable[[Any], Any]
) -> None:
    assert "hunter2" not in shown(harmless=place(value))
    assert MASK in shown(harmless=place(value))


@pytest.mark.parametrize("key", ["event", "tenant", "call_id", "monkeys", "keyboard", "path"])
def test_other_keys_are_shown(key: str) -> None:
    assert redact({key: "value"}, numbers_in_clear=True) == {key: "value"}


@pytest.mark.parametrize("value", [None, "", 0, False])
def test_that_a_secret_is_not_set_may_be_seen(value: Any) -> None:
    assert redact({"token": value}, numbers_in_clear=True) == {"token": value}


def test_what_is_shown_is_a_copy() -> None:
    event = {"token": "hunter2", "deep": {"token": "hunter2"}}

    redact(event, numbers_in_clear=True)

    assert event == {"token": "hunter2", "deep": {"token": "hunter2"}}


# -- secrets inside a text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://mesh:hunter2@rabbit:5672/", "amqp://mesh:***@rabbit:5672/"),
        ("redis://:hunter2@cache/0", "redis://:***@cache/0"),
        ("from a://x:hunter2@y to b://x:hunter3@z", "from a://x:***@y to b://x:***@z"),
        ("http://host:8080/path", "http://host:8080/path"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("authorization: basic aHVudGVyMg==", "authorization: basic ***"),
        ("'Zoho-oauthtoken 1000.ab.cd'", "'Zoho-oauthtoken ***'"),
        ("token=hunter2", "token=***"),
        ("GET /x?access_token=hunter2&page=1", "GET /x?access_token=***&page=1"),
        ("password: hunter2, user: me", "password: ***, user: me"),
        ('{"client_secret": "hunter2", "id": 1}', '{"client_secret": "***", "id": 1}'),
        ("{'api_key': 'hunter2'}", "{'api_key': '***'}"),
        ("X-Api-Key: hunter2", "X-Api-Key: ***"),
        ("APIKEY=hunter2;x", "APIKEY=***;x"),
        ("the token was refused", "the token was refused"),
        ("call 42 ended", "call 42 ended"),
        ("", ""),
    ],
)
def test_a_credential_inside_a_text_is_blotted_out(text: str, expected: str) -> None:
    assert mask_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("token: Bearer hunter2", id="a scheme behind a telling name"),
        pytest.param('{"password": "correct hunter2"}', id="several words in quotes"),
        pytest.param('{"client_secret": "a,hunter2"}', id="a comma in quotes"),
    ],
)
def test_the_whole_credential_is_blotted_out(text: str) -> None:
    assert "hunter2" not in mask_text(text)


@given(
    st.sampled_from(["token", "client_secret", "password", "passwd", "api_key", "apikey", "Key"]),
    st.sampled_from(["=", ": ", " = ", '": "', "':'"]),
    secrets,
)
@settings(deadline=None)
def test_a_secret_behind_a_telling_name_never_appears(name: str, sign: str, secret: str) -> None:
    assert secret not in shown(event=f"sent {name}{sign}{secret} to the CRM")


@given(st.sampled_from(["Bearer", "bearer", "Basic", "Zoho-oauthtoken"]), secrets)
@settings(deadline=None)
def test_a_token_behind_its_scheme_never_appears(scheme: str, secret: str) -> None:
    assert secret not in shown(event=f"sent {scheme} {secret}")


@given(st.text())
@settings(deadline=None)
def test_a_masked_text_stays_as_it_is_when_masked_again(text: str) -> None:
    assert mask_text(mask_text(text)) == mask_text(text)


# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+447700900123", "***123"),
        ("447700900123", "***123"),
        ("123456", "***456"),
        ("12345", "12345"),
        ("101", "101"),
        ("", ""),
    ],
)
def test_a_number_is_masked_to_its_last_three_digits_unless_it_is_internal(
    number: str, expected: str
) -> None:
    assert mask_number(number) == expected


@pytest.mark.parametrize("key", ["number", "caller", "from_number", "to_number", "dialled", "did"])
@pytest.mark.parametrize(
    "place",
    [lambda e: e, lambda e: {"call": e}, lambda e: {"calls": [e]}],
    ids=["bare", "deep", "in a list"],
)
def test_phone_numbers_are_masked_wherever_they_stand(
    key: str, place: Callable[[Any], Any]
) -> None:
    text = shown(**place({key: "447700900123"}))

    assert "447700900123" not in text
    assert "***123" in text


def test_numbers_in_a_list_are_masked_too() -> None:
    assert redact({"number": ["447700900123"]}, numbers_in_clear=False) == {"number": ["***123"]}


def test_numbers_are_shown_where_the_operator_asked_for_them() -> None:
    event = {"number": "447700900123", "call": {"did": "442079460000"}}

    assert redact(event, numbers_in_clear=True) == event


# -- what comes out -----------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_its_event_level_and_time(opened: Opened) -> None:
    stream = opened()

    structlog.get_logger("test").info("call_ended", call_id="c1", talk_s=1.5)

    (line,) = lines(stream)
    assert datetime.fromisoformat(line.pop("at")).tzinfo is not None
    assert line == {"event": "call_ended", "level": "info", "call_id": "c1", "talk_s": 1.5}


def test_what_is_bound_to_the_context_is_on_every_line(opened: Opened) -> None:
    stream = opened()

    with structlog.contextvars.bound_contextvars(tenant="acme"):
        structlog.get_logger().info("one")
        structlog.get_logger().info("two")

    assert [line["tenant"] for line in lines(stream)] == ["acme", "acme"]


@pytest.mark.parametrize(("level", "expected"), [("INFO", 2), ("WARNING", 1), ("ERROR", 0)])
def test_lines_below_the_level_are_left_out(opened: Opened, level: str, expected: int) -> None:
    stream = opened(level=level)

    structlog.get_logger().info("seen")
    structlog.get_logger().warning("seen")

    assert len(lines(stream)) == expected


def test_a_librarys_logger_comes_out_in_the_same_form(opened: Opened) -> None:
    stream = opened()

    logging.getLogger("pymongo").warning("lost %s", "amqp://u:hunter2@h/")  # noqa: TID251  as a library does

    (line,) = lines(stream)
    line.pop("at")
    assert line == {
        "event": "lost amqp://u:***@h/",
        "level": "warning",
        "logger": "pymongo",
    }


def test_what_the_bus_says_in_a_line_its_library_does_not_say_again(opened: Opened) -> None:
    stream = opened()

    logging.getLogger("aiormq.connection").warning("Cancelling cause …")  # noqa: TID251  as it does

    assert lines(stream) == []


def test_an_exception_is_one_line_with_its_traceback(opened: Opened) -> None:
    stream = opened()

    try:
        fail("cannot reach amqp://mesh:hunter2@rabbit/")
    except RuntimeError:
        structlog.get_logger().exception("task_failed")

    (line,) = lines(stream)
    assert "Traceback" in line["exception"]
    assert "amqp://mesh:***@rabbit/" in line["exception"]
    assert "hunter2" not in stream.getvalue()


def test_a_librarys_exception_is_one_line_too(opened: Opened) -> None:
    stream = opened()

    try:
        fail("token=hunter2")
    except RuntimeError:
        logging.getLogger("lib").exception("it broke")  # noqa: TID251  as a library does

    (line,) = lines(stream)
    assert line["exception"].endswith("RuntimeError: token=***")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(RuntimeError("cannot reach amqp://mesh:hunter2@rabbit/"), id="an error"),
        pytest.param(b"Authorization: Bearer hunter2", id="bytes"),
        pytest.param([RuntimeError("token=hunter2")], id="an error in a list"),
    ],
)
def test_a_credential_inside_an_object_is_blotted_out_like_one_in_a_text(
    opened: Opened, value: Any
) -> None:
    stream = opened()

    structlog.get_logger().info("seen", what=value)

    assert "hunter2" not in stream.getvalue()


def test_a_number_inside_a_model_is_masked_like_one_in_a_text(opened: Opened) -> None:
    stream = opened()

    structlog.get_logger().info("seen", caller=Party(number="447700900123"))

    assert "447700900123" not in stream.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("two\nlines", id="a line break"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), id="a moment"),
        pytest.param(float("nan"), id="no number"),
        pytest.param(object(), id="anything"),
        pytest.param({1: 2}, id="a mapping by numbers"),
        pytest.param(10**30, id="a large number"),
        pytest.param("\ud800", id="half a character"),
    ],
)
def test_whatever_is_logged_is_one_line_and_never_an_error(opened: Opened, value: Any) -> None:
    stream = opened()

    structlog.get_logger().info("seen", what=value)

    assert [line["event"] for line in lines(stream)] == ["seen"]


def test_the_console_shows_the_same_without_the_secrets(opened: Opened) -> None:
    stream = opened(form=LogFormat.CONSOLE)

    structlog.get_logger().info("seen", token="hunter2", number="447700900123")

    assert "seen" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "447700900123" not in stream.getvalue()


def test_a_request_line_that_cannot_be_read_is_not_shown(opened: Opened) -> None:
    """The server's library logs it whole, and a consent's code may be in it."""
    stream = opened()
    logging.getLogger("aiohttp.server").error("bad line: GET /v1/oauth/callback?code=c0de")  # noqa: TID251  a library's
    assert "c0de" not in stream.getvalue()

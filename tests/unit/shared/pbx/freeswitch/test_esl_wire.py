"""ESL on the wire: frames, events in both forms, and what is neither."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ContractError
from shared.pbx.freeswitch.esl_wire import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    EslFrame,
    EslParser,
    encode_command,
    read_event,
)
from tests.unit.shared.pbx.freeswitch.event_streams import DATA

FRAME = (DATA / "answer.frame.txt").read_bytes()
GREETING = b"Content-Type: auth/request\n\n"
REPLY = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


def test_the_documented_event_is_read() -> None:
    (frame,) = EslParser().feed(FRAME)
    event = read_event(frame.body)

    assert frame.kind == "text/event-plain"
    assert event["Event-Name"] == "CHANNEL_ANSWER"
    assert event["Channel-Name"] == "sofia/internal/101@127.0.0.11"
    assert event["variable_crm_click_id"] == "click-0001"


@given(cuts=st.lists(st.integers(0, len(GREETING + FRAME + REPLY + FRAME)), max_size=20))
def test_frames_do_not_depend_on_how_they_are_cut(cuts: list[int]) -> None:
    stream, parser = GREETING + FRAME + REPLY + FRAME, EslParser()
    places = [0, *sorted(cuts), len(stream)]
    found = [frame for begin, end in pairwise(places) for frame in parser.feed(stream[begin:end])]

    kinds = ["auth/request", "text/event-plain", "command/reply", "text/event-plain"]
    assert [frame.kind for frame in found] == kinds
    assert found[1] == found[3]
    assert found[2].reply == "+OK accepted"


def test_the_answer_of_an_api_command_is_its_body() -> None:
    body = "+OK Grüße\n".encode()
    head = f"Content-Type: api/response\nContent-Length: {len(body)}\n\n".encode()
    (frame,) = EslParser().feed(head + body)

    assert frame.reply == "+OK Grüße"


def test_a_rejection_of_an_old_version_without_a_length_is_one() -> None:
    (frame,) = EslParser().feed(b"Content-Type: text/rude-rejection\nContent-Length 24\n\n")

    assert frame == EslFrame({"Content-Type": "text/rude-rejection"})


def test_an_event_as_json_says_the_same() -> None:
    event = read_event(
        b'{"Event-Name":"BACKGROUND_JOB","Job-UUID":"7","_body":"+OK\\n","n":1,"x":["a","b"],'
        b'"odd":{"a":1},"none":null,"yes":true}'
    )

    assert event == {
        "Event-Name": "BACKGROUND_JOB",
        "Job-UUID": "7",
        "_body": "+OK\n",
        "n": "1",
        "x": "a",
    }


def test_what_follows_the_headers_of_an_event_is_its_body() -> None:
    event = read_event(b"Event-Name: BACKGROUND_JOB\nContent-Length: 14\n\n-ERR USER_BUSY\n")

    assert event["_body"].strip() == "-ERR USER_BUSY"


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (MAX_HEAD_BYTES + 1),
        b"Content-Length: -1\n\n",
        b"Content-Length: 1e3\n\n",
        "Content-Length: ²\n\n".encode(),
        b"Content-Length: 99999999999999\n\n",
        f"Content-Length: {MAX_BODY_BYTES + 1}\n\n".encode(),
    ],
)
def test_what_is_no_event_socket_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="no event socket"):
        list(EslParser().feed(data))


@pytest.mark.parametrize(
    "body",
    [b"", b"\n\n", b"{", b"{}", b'{"Event-Name":1}'[:-1], b'{"Event-Name":""}', b"Event: x", b"[]"],
)
def test_an_event_without_a_name_is_none(body: bytes) -> None:
    with pytest.raises(ContractError):
        read_event(body)


def test_an_event_with_endless_headers_is_refused() -> None:
    headers = ",".join(f'"h{n}":"x"' for n in range(2_001))

    with pytest.raises(ContractError, match="headers"):
        read_event(f'{{"Event-Name":"X",{headers}}}'.encode())


@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    try:
        frames = list(EslParser().feed(data + b"\n\n"))
    except ContractError:
        return
    for frame in frames:
        assert isinstance(frame.kind, str)


@given(body=st.binary(max_size=200))
def test_no_bytes_crash_the_reading_of_an_event(body: bytes) -> None:
    try:
        event = read_event(body)
    except ContractError:
        return
    assert event["Event-Name"]


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\x00b"])
def test_a_line_break_becomes_no_second_command(bad: str) -> None:
    with pytest.raises(ContractError):
        encode_command(f"api {bad}")
    with pytest.raises(ContractError):
        encode_command("bgapi x", {"Job-UUID": bad})


def test_a_command_is_its_line_and_its_headers() -> None:
    assert encode_command("bgapi x", {"Job-UUID": "7"}) == b"bgapi x\nJob-UUID: 7\n\n"

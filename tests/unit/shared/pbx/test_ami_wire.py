from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ContractError
from shared.pbx.asterisk.ami_wire import (
    MAX_BLOCK_BYTES,
    AmiMessage,
    AmiParser,
    encode_action,
    parse_block,
)

RECORDINGS = Path(__file__).parents[3] / "data" / "pbx"
NAMES = sorted(path.name.removesuffix(".ami.txt") for path in RECORDINGS.glob("*.ami.txt"))
BANNER = b"Asterisk Call Manager/11.0.0\r\n"


@cache
def recorded(name: str) -> bytes:
    return (RECORDINGS / f"{name}.ami.txt").read_bytes()


def parsed(*pieces: bytes, wanted: tuple[str, ...] | None = None) -> list[AmiMessage]:
    parser = AmiParser(wanted)
    return [message for piece in pieces for message in parser.feed(piece)]


def block(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    """*data* in pieces, as a socket might give it."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# -- cutting --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(NAMES), places=st.lists(st.integers(0, 10**6), max_size=30))
def test_any_cut_of_a_recording_gives_the_same_messages(name: str, places: list[int]) -> None:
    data = recorded(name)

    assert parsed(*cut_at(data, places)) == parsed(data)


def test_a_recording_read_byte_by_byte_gives_the_same_messages() -> None:
    data = recorded("agi_commands")[:20_000]

    assert parsed(*(data[n : n + 1] for n in range(len(data)))) == parsed(data)


def test_a_character_split_over_two_reads_is_whole_again() -> None:
    data = block("Event: Newchannel", "CallerIDName: Анна Иванова €")

    for place in range(len(data)):
        (message,) = parsed(data[:place], data[place:])
        assert message.get("CallerIDName") == "Анна Иванова €"


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_recording_is_a_message(name: str) -> None:
    blocks = [part for part in recorded(name).split(b"\r\n\r\n") if b":" in part]

    assert len(parsed(recorded(name))) == len(blocks)


def test_an_unfinished_block_waits_for_its_end() -> None:
    parser = AmiParser()

    assert list(parser.feed(b"Event: Hangup\r\nCause: 16\r\n")) == []
    assert [message.get("Cause") for message in parser.feed(b"\r\n")] == ["16"]


# -- reading --------------------------------------------------------------------------------


def test_the_banner_is_no_message_and_does_not_spoil_the_first_one() -> None:
    first, second = parsed(BANNER + block("Response: Success", "Ping: Pong"), block("Event: A"))

    assert dict(first.headers) == {"Response": ("Success",), "Ping": ("Pong",)}
    assert second.event == "A"


def test_a_banner_alone_gives_nothing() -> None:
    assert parsed(BANNER + b"\r\n") == []


def test_a_header_that_repeats_keeps_all_its_values_in_their_order() -> None:
    (message,) = parsed(block("Event: A", "ChanVariable: X=1", "ChanVariable: Y=2=3"))

    assert message.all("ChanVariable") == ("X=1", "Y=2=3")
    assert message.get("ChanVariable") == "X=1"
    assert (message.variable("X"), message.variable("Y")) == ("1", "2=3")


def test_the_form_of_originate_response_names_the_same_variable() -> None:
    (message,) = parsed(
        block(
            "Event: OriginateResponse",
            "ChanVariable(PJSIP/101-0000003d): CRM_DEST=",
            "ChanVariable(PJSIP/101-0000003d): CRM_CLICK_ID=click-0001",
        )
    )

    assert message.variable("CRM_CLICK_ID") == "click-0001"
    assert message.variable("CRM_DEST") == ""


def test_a_recorded_originate_response_has_its_order_s_id() -> None:
    found = [m for m in parsed(recorded("originate_ami")) if m.event == "OriginateResponse"]

    assert [message.variable("CRM_CLICK_ID") for message in found] == ["click-0001"]


def test_a_variable_of_the_dialled_channel_is_found_too() -> None:
    (message,) = parsed(
        block("Event: DialBegin", "ChanVariable: A=", "DestChanVariable: A=theirs", "X: 1")
    )

    assert message.variable("A") == "theirs"


def test_a_value_may_have_colons_and_be_empty() -> None:
    (message,) = parsed(block("Event: A", "Channel: PJSIP/trunk:1", "Exten:", "Empty: "))

    assert message.get("Channel") == "PJSIP/trunk:1"
    assert (message.get("Exten", "x"), message.get("Empty", "x")) == ("", "")


def test_what_is_missing_is_empty() -> None:
    (message,) = parsed(block("Response: Success"))

    assert (message.event, message.action_id, message.get("X", "none")) == ("", "", "none")
    assert message.all("X") == ()


def test_bytes_that_are_no_utf8_are_replaced_and_the_message_kept() -> None:
    (message,) = parsed(b"Event: A\r\nCallerIDName: caf\xe9\r\nCause: 16\r\n\r\n")

    assert message.get("Cause") == "16"
    assert message.get("CallerIDName").startswith("caf")


def test_a_line_without_a_colon_is_passed_over() -> None:
    assert dict(parse_block(b"Event: A\r\n--END COMMAND--\r\nX: 1").headers) == {
        "Event": ("A",),
        "X": ("1",),
    }


@settings(deadline=None)
@given(data=st.binary(max_size=400), places=st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_can_be_read(data: bytes, places: list[int]) -> None:
    assert parsed(*cut_at(data, places)) == parsed(data)


# -- what is wanted -------------------------------------------------------------------------


def test_an_event_that_is_not_wanted_is_passed_over() -> None:
    parser = AmiParser(["Hangup"])

    data = block("Event: VarSet", "Variable: X") + block("Event: Hangup", "Cause: 16")
    found = list(parser.feed(data))

    assert [message.event for message in found] == ["Hangup"]
    assert parser.passed_over == 1


def test_an_event_is_wanted_by_its_whole_name() -> None:
    assert parsed(block("Event: HangupRequest", "Cause: 16"), wanted=("Hangup",)) == []


def test_an_event_that_answers_an_action_passes() -> None:
    found = parsed(
        block("Event: CoreShowChannel", "ActionID: a-1", "Uniqueid: 1.0"),
        block("Event: CoreShowChannelsComplete", "ActionID: a-1", "EventList: Complete"),
        block("Response: Success", "ActionID: a-1"),
        wanted=("Hangup",),
    )

    assert [message.event for message in found] == [
        "CoreShowChannel",
        "CoreShowChannelsComplete",
        "",
    ]


def test_nothing_wanted_leaves_only_answers() -> None:
    assert parsed(block("Event: A"), block("Response: Success"), wanted=()) == parsed(
        block("Response: Success")
    )


def test_an_event_of_one_line_is_wanted_by_its_name() -> None:
    assert [m.event for m in parsed(block("Event: Hangup"), wanted=("Hangup",))] == ["Hangup"]


def test_a_stray_empty_line_does_not_let_the_next_event_pass() -> None:
    """As Asterisk's own TestEvent leaves one."""
    data = block("Event: TestEvent", "Token: ALL") + b"\r\n" + block("Event: VarSet", "Value: 1")

    assert parsed(data, wanted=("Hangup",)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_filter_loses_no_wanted_event_of_a_recording_and_no_answer(name: str) -> None:
    def picked(messages: list[AmiMessage]) -> list[AmiMessage]:
        return [m for m in messages if m.event in wanted or m.action_id]

    wanted = ("Newchannel", "DialEnd", "Hangup")

    assert picked(parsed(recorded(name), wanted=wanted)) == picked(parsed(recorded(name)))


# -- what is no AMI -------------------------------------------------------------------------


def test_a_block_without_an_end_is_no_ami() -> None:
    parser = AmiParser()
    assert list(parser.feed(b"x" * MAX_BLOCK_BYTES)) == []

    with pytest.raises(ContractError):
        list(parser.feed(b"x"))


def test_many_blocks_in_one_read_are_not_one_long_block() -> None:
    data = block("Event: A", "X: " + "x" * 500) * (MAX_BLOCK_BYTES // 250)

    assert len(parsed(data)) == MAX_BLOCK_BYTES // 250


# -- writing --------------------------------------------------------------------------------


def test_an_action_is_lines_and_an_empty_line() -> None:
    assert encode_action("Ping", {"ActionID": "a-1"}) == b"Action: Ping\r\nActionID: a-1\r\n\r\n"


def test_a_list_of_values_is_a_header_each() -> None:
    data = encode_action("Originate", {"Variable": ["A=1", "PJSIP_HEADER(add,X)=<sip:a>;b=0"]})

    assert data.splitlines()[1:3] == [
        b"Variable: A=1",
        b"Variable: PJSIP_HEADER(add,X)=<sip:a>;b=0",
    ]


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\x00"])
@pytest.mark.parametrize("around", ["{}", "a{}", "{}b", "a{}Action: Logoff"])
def test_a_line_break_is_refused_wherever_it_stands(bad: str, around: str) -> None:
    value = around.format(bad)
    for name, fields in (
        (value, {}),
        ("Originate", {value: "x"}),
        ("Originate", {"Exten": value}),
        ("Originate", {"Variable": ["A=1", value]}),
    ):
        with pytest.raises(ContractError):
            encode_action(name, fields)


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(ContractError) as refusal:
        encode_action("Login", {"Secret": "s3cret\r\n"})

    assert "s3cret" not in str(refusal.value)


WORDS = st.text(st.characters(exclude_characters=":\r\n\x00", codec="utf-8"), min_size=1).filter(
    lambda word: word == word.strip() and not word.startswith("ChanVariable(")
)
VALUES = st.text(st.characters(exclude_characters="\r\n\x00", codec="utf-8")).map(str.strip)


@settings(deadline=None)
@given(fields=st.dictionaries(WORDS, VALUES | st.lists(VALUES, min_size=1, max_size=3)))
def test_what_is_written_reads_back(fields: dict[str, str | list[str]]) -> None:
    fields.pop("Action", None)

    (message,) = parsed(encode_action("Test", fields))

    expected = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in fields.items()}
    assert dict(message.headers) == {"Action": ("Test",), **expected}

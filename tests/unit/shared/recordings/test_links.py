"""Links to recordings: ours hold until their end, and nothing else does."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import ContractError, Gone, NotFound
from shared.recordings.links import PURPOSE, Linked, RecordingLinks, mark_of
from shared.secrets import SecretBox, new_key

OLD, NEW = new_key(), new_key()
PUBLIC = "https://mesh.example/callmesh"
ENDED = datetime(2026, 11, 22, 10, 20, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CALL = "6f2d3a8e-6a53-5d0e-9a52-9d1c1f0c3a11"
URL_SAFE = string.ascii_letters + string.digits + "-_.~"


def links(*keys: SecretStr, public_url: str | None = PUBLIC) -> RecordingLinks:
    return RecordingLinks(SecretBox(keys or (OLD,)).signing_keys(PURPOSE), public_url=public_url)


def link(of: RecordingLinks | None = None, **changes: object) -> str:
    known: dict[str, object] = {
        "tenant": "acme",
        "call_id": CALL,
        "recording": "/var/spool/a.wav",
        "ended_at": ENDED,
        "lasts": DAY,
    }
    found = (of or links()).link(**(known | changes))  # type: ignore[arg-type]  # by name
    assert found is not None
    return found


def token(of: RecordingLinks | None = None, **changes: object) -> str:
    return link(of, **changes).removeprefix(f"{PUBLIC}/recordings/")


def test_a_link_says_whose_call_and_which_recording() -> None:
    found = links().read(token(), now=ENDED)
    assert found == Linked("acme", CALL, mark_of("/var/spool/a.wav"))


def test_it_is_the_same_each_time_and_for_an_end_known_a_little_better() -> None:
    assert link() == link()
    assert link(ended_at=ENDED + timedelta(minutes=5)) == link()


def test_it_is_short_enough_for_a_field_of_255_characters_and_needs_no_quoting() -> None:
    assert len(link()) < 150
    assert set(token(tenant="a" * 40)) <= set(URL_SAFE)
    assert len(token(tenant="a" * 40)) < 200


def test_without_a_public_address_there_is_none() -> None:
    bare = links(public_url=None)
    assert bare.link(tenant="a", call_id="c", recording="r", ended_at=ENDED, lasts=DAY) is None


def test_it_holds_until_the_hour_after_its_end_and_not_longer() -> None:
    last = datetime(2026, 11, 23, 11, tzinfo=UTC)
    links().read(token(), now=last - timedelta(milliseconds=1))
    with pytest.raises(Gone):
        links().read(token(), now=last)


def test_the_longest_life_is_the_calendar_s() -> None:
    found = token(lasts=timedelta.max / 2)
    links().read(found, now=datetime(9999, 12, 30, tzinfo=UTC))


def test_a_link_of_an_older_key_holds_while_that_key_is_listed() -> None:
    old = token(links(OLD))
    links(NEW, OLD).read(old, now=ENDED)
    with pytest.raises(NotFound):
        links(NEW).read(old, now=ENDED)
    assert token(links(NEW, OLD)) == token(links(NEW))


def test_the_keys_that_sign_are_not_those_that_seal_and_differ_by_purpose() -> None:
    box = SecretBox([OLD])
    assert box.signing_keys("one") != box.signing_keys("other")
    assert OLD.get_secret_value().encode() not in box.signing_keys("one")


@given(at=st.integers(0, 200), character=st.characters())
def test_a_token_with_any_character_changed_is_refused(at: int, character: str) -> None:
    good = token()
    at %= len(good)
    changed = good[:at] + character + good[at + 1 :]
    if changed != good:
        refused(changed)


@given(cut=st.integers(1, 200), more=st.text(max_size=5))
def test_a_token_that_is_cut_or_longer_is_refused(cut: int, more: str) -> None:
    good = token()
    refused(good[: -(cut % len(good) or 1)])
    refused(good[cut % len(good) or 1 :])
    if more:
        refused(good + more)
        refused(more + good)


@given(text=st.text(max_size=300))
def test_any_other_text_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "globex"},
        {"call_id": "6f2d3a8e-6a53-5d0e-9a52-9d1c1f0c3a12"},
        {"recording": "/var/spool/b.wav"},
        {"lasts": 2 * DAY},
    ],
)
def test_the_signature_of_one_link_fits_no_other(other: dict[str, object]) -> None:
    *_, signature, ending = token().split(".")
    refused(".".join((*token(None, **other).split(".")[:-2], signature, ending)))


@pytest.mark.parametrize(
    ("recording", "ending"),
    [
        ("/var/spool/a.wav", ".wav"),
        ("A.MP3", ".mp3"),
        ("https://pbx.example/rec/7.mp3?key=.wav", ".mp3"),
        ("https://pbx.example/rec?id=7.mp3", ""),
        ("a.php", ""),
        ("1651057476.362", ""),
        (".wav", ""),
        ("", ""),
    ],
)
def test_it_ends_as_the_file_does_so_that_a_crm_knows_what_it_gets(
    recording: str, ending: str
) -> None:
    made = token(recording=recording)
    assert made.endswith(ending)
    assert made.count(".") == (5 if ending else 4)
    assert links().read(made, now=ENDED).mark == mark_of(recording)
    for other in {"", ".mp3", ".wav", ".php"} - {ending}:
        refused(made.removesuffix(ending) + other)


def test_an_ended_link_that_was_forged_too_is_no_more_than_forged() -> None:
    *said, _, ending = token(ended_at=ENDED - 365 * DAY).split(".")
    refused(".".join((*said, "A" * 22, ending)))


def test_a_call_whose_id_means_something_in_an_address_has_none() -> None:
    with pytest.raises(ContractError):
        link(call_id="a/../b")


def refused(text: str) -> None:
    with pytest.raises(NotFound) as caught:
        links().read(text, now=ENDED)
    assert not isinstance(caught.value, Gone)
    assert caught.value.message == "This is no link to a recording, or it does not hold any more."

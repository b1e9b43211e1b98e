"""What a recording is, by its bytes; how it is called when it is saved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.recordings.audio import HEAD_BYTES, UNKNOWN, file_name, holds_sound, type_of

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00"
GSM_IN_WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x14\x00\x00\x00\x31\x00"
OGG = b"OggS\x00\x02" + bytes(22)
#: Head and length of frames: 128 kbit/s at 44.1 kHz with a byte more; 16 at 8 kHz, as of a phone.
MP3 = b"\xff\xfb\x92\x64" + bytes(414)
MP3_OF_A_PHONE = b"\xff\xe3\x28\xc4" + bytes(140)


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (WAV, "a.wav", "audio/wav"),
        (WAV, "a.mp3", "audio/wav"),
        (WAV, "", "audio/wav"),
        (GSM_IN_WAV, "a.WAV", "audio/wav"),
        (b"RF64" + WAV[4:], "a.wav", "audio/wav"),
        (b"ID3\x04\x00", "a", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "a.mp3", "audio/mpeg"),
        (b"\xff\xf3\x40\xc4", "dir.x/A.MP3", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "a.bin", UNKNOWN),
        (MP3 + MP3, "https://pbx.example/media/talk/7/", "audio/mpeg"),
        (MP3_OF_A_PHONE + MP3_OF_A_PHONE[:4], "", "audio/mpeg"),
        (MP3, "a", UNKNOWN),
        (MP3 + bytes(400), "a", UNKNOWN),
        (b"\xff\xfb" * 1024, "a", UNKNOWN),
        (b"\xff\xd8\xff\xe0", "a.mp3", UNKNOWN),  # a JPEG that is called a song
        (b"\xff\xf1\x50\x80", "a.aac", "audio/aac"),
        (b"\xff\xf1\x50\x80", "a.mp3", UNKNOWN),
        (OGG + b"\x01vorbis", "a.ogg", "audio/ogg"),
        (OGG + b"OpusHead", "a.opus", "audio/ogg; codecs=opus"),
        (b"fLaC\x00\x00", "a.flac", "audio/flac"),
        (b"\x00\x00\x00\x20ftypM4A ", "a.m4a", "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "a.webm", "audio/webm"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", "a.webm", UNKNOWN),
        (b"<html><script>", "a.wav", UNKNOWN),
        (b"RIFF\x24\x00\x00\x00AVI ", "a.wav", UNKNOWN),
        (b"", "a.wav", UNKNOWN),
    ],
)
def test_bytes_say_what_it_is_and_the_name_is_a_second_witness(
    head: bytes, name: str, kind: str
) -> None:
    assert type_of(head, name) == kind


@given(head=st.binary(max_size=HEAD_BYTES), name=st.text(max_size=50))
def test_anything_has_one_type_and_a_name_that_means_nothing(head: bytes, name: str) -> None:
    kind = type_of(head, name)
    assert kind == UNKNOWN or kind.startswith("audio/")
    saved = file_name(name, kind)
    assert set(saved) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert saved[0] != "."
    assert len(saved) <= 90


@pytest.mark.parametrize(
    ("recording", "kind", "name"),
    [
        ("/var/spool/asterisk/monitor/17.0.wav", "audio/wav", "17.0.wav"),
        ("a/b/call 1.WAV", "audio/mpeg", "call_1.mp3"),
        ('x";drop\r\n.wav', "audio/wav", "x_drop.wav"),
        ("https://pbx.example/media?id=4", "audio/wav", "media.wav"),
        ("C:\\rec\\..\\7.wav", "audio/wav", "7.wav"),
        ("", UNKNOWN, "recording.bin"),
        ("..", UNKNOWN, "recording.bin"),
    ],
)
def test_it_is_saved_under_the_last_part_of_its_name(recording: str, kind: str, name: str) -> None:
    assert file_name(recording, kind) == name


def test_a_header_alone_is_no_sound() -> None:
    assert not holds_sound(44, WAV)
    assert not holds_sound(0, b"")
    assert holds_sound(45, WAV)
    assert holds_sound(30, b"\xff\xfb")

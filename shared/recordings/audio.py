"""
What a recording is, by its first bytes; its name is a second witness, where they alone prove
little. Pure.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

#: So many of the first bytes are looked at: a frame of an MP3, which has 1441 at most, and the
#: head of the next.
HEAD_BYTES = 2048
UNKNOWN = "application/octet-stream"
#: A WAV file of nothing but its header: what a call leaves that nobody answered (Asterisk).
_HEADER_ALONE = 44
_EBML, _EBML_BYTES = b"\x1a\x45\xdf\xa3", 64
_OPUS_AT = slice(28, 36)
#: First word of a frame of AAC in ADTS.
_AAC_FRAME, _AAC_BITS = 0xFFF0, 0xFFF6
#: Of a frame of MP3: eleven bits of one, then layer III.
_MP3_FRAME, _MP3_BITS = 0xFFE2, 0xFFE6
#: By its version, as its two bits have it (1 is none): kbit/s by index, Hz by index, and a frame's
#: samples in bytes per kbit/s and kHz (ISO 11172-3 2.4.2.3, ISO 13818-3, and MPEG 2.5 beside them).
_HIGH = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG = {
    0: (_LOW, (11025, 12000, 8000), 72_000),
    2: (_LOW, (22050, 24000, 16000), 72_000),
    3: (_HIGH, (44100, 48000, 32000), 144_000),
}
_ENDINGS = {
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/webm": ".webm",
    "audio/aac": ".aac",
}
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_STEM = 80


def type_of(head: bytes, name: str) -> str:
    """The media type; :data:`UNKNOWN` for what is no audio that we know."""
    ending = PurePosixPath(name).suffix.lower()
    if head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE":
        # Whatever the codec, GSM too: that stands in the file.
        return "audio/wav"
    if head[:4] == b"OggS":
        return "audio/ogg; codecs=opus" if head[_OPUS_AT] == b"OpusHead" else "audio/ogg"
    if head[:4] == b"fLaC":
        return "audio/flac"
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    if head[:4] == _EBML and b"webm" in head[:_EBML_BYTES]:
        return "audio/webm"
    if head[:3] == b"ID3":
        return "audio/aac" if ending == ".aac" else "audio/mpeg"
    # Few bits, which other files may begin with too: the name says so as well, or the next frame.
    if ending == ".aac" and int.from_bytes(head[:2], "big") & _AAC_BITS == _AAC_FRAME:
        return "audio/aac"
    length = _mp3_frame(head)
    if length is not None and (ending == ".mp3" or _mp3_frame(head[length:]) is not None):
        return "audio/mpeg"
    return UNKNOWN


def _mp3_frame(raw: bytes) -> int | None:
    """How many bytes the frame has that *raw* begins with; None for no frame of an MP3."""
    if len(raw) < 4 or int.from_bytes(raw[:2], "big") & _MP3_BITS != _MP3_FRAME:  # noqa: PLR2004  its head
        return None
    version, bitrate, rate = raw[1] >> 3 & 3, raw[2] >> 4, raw[2] >> 2 & 3
    # Free, forbidden, kept for later.
    if version not in _MPEG or bitrate in {0, 15} or rate == 3:  # noqa: PLR2004  all bits set
        return None
    bitrates, rates, factor = _MPEG[version]
    return factor * bitrates[bitrate - 1] // rates[rate] + (raw[2] >> 1 & 1)


def holds_sound(size: int, head: bytes) -> bool:
    """Whether there is more than the header of a file that was begun."""
    return size > (_HEADER_ALONE if head[:4] == b"RIFF" else 0)


def file_name(recording: str, kind: str) -> str:
    """A name to save it by that means nothing anywhere: the last part of the PBX's own."""
    path = recording.partition("?")[0].replace("\\", "/").rstrip("/")
    stem = _NOT_PLAIN.sub("_", PurePosixPath(path).stem).strip("._")[:_LONGEST_STEM]
    ending = _ENDINGS.get(kind.partition(";")[0], ".bin")
    return f"{stem or 'recording'}{ending}"

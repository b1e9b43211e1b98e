"""A recording that can be heard: two seconds of a tone, as a PBX would write it."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path

RATE = 8000
SECONDS = 2
_PITCH_HZ = 440
_LOUDNESS = 8000


def write_tone(file: Path) -> None:
    """16 bits, mono; it has its name only when it is whole. One that is there stays."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = (
        round(_LOUDNESS * math.sin(2 * math.pi * _PITCH_HZ * at / RATE))
        for at in range(RATE * SECONDS)
    )
    part = file.with_suffix(".part")
    with wave.open(str(part), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    part.replace(file)

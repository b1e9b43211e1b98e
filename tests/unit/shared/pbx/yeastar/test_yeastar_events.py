"""What the records of a sample say, as tests/data/pbx/yeastar/events.md has it."""

from __future__ import annotations

import pytest

from shared.contracts.calls import Party
from shared.pbx.port import Sighting
from tests.calltable import cells_in
from tests.unit.shared.pbx.yeastar.yeastar_kit import BEGAN, SAMPLES, by_websocket, steps

_, *EVENTS = cells_in(SAMPLES / "events.md")
#: In the order in which they are written down.
_FIELDS = (
    *("direction", "caller", "dialled", "queue", "leg_id", "callee", "own_phone", "outcome"),
    *("kind", "by", "to", "recording", "disposition", "talk_time", "known", "extension", "status"),
)


def as_row(name: str, sighting: Sighting) -> list[str]:
    body = sighting.body
    return [
        name,
        f"{(sighting.at - BEGAN).total_seconds():.1f}",
        body.contract_name,
        ", ".join(
            f"{field} {_words(value)}"
            for field in _FIELDS
            if (value := getattr(body, field, None)) not in (None, False, Party())
        ),
    ]


def _words(value: object) -> str:
    return value.label if isinstance(value, Party) else str(value)


@pytest.mark.parametrize("name", sorted({row[0] for row in EVENTS}))
def test_a_sample_says_what_its_rows_say(name: str) -> None:
    found = [as_row(name, sighting) for sighting in by_websocket(steps(name))]

    assert found == [row for row in EVENTS if row[0] == name]

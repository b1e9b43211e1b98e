"""Samples in, finished calls out, as tests/data/pbx/yeastar/calls.md has them."""

from __future__ import annotations

import pytest

from tests.calltable import CallTable, calls_of
from tests.unit.shared.pbx.yeastar.yeastar_kit import NAMES, SAMPLES, WAYS, seen, steps

TABLE = CallTable(SAMPLES / "calls.md")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_adds_up_to_its_rows(name: str, way: str) -> None:
    found = [TABLE.row(call, name, way) for call in calls_of(seen(steps(name), way))]

    assert found == TABLE.rows_of(name, way)


def test_every_row_has_its_sample() -> None:
    assert {*TABLE.names, "agents"} == set(NAMES)
    assert "agents" not in TABLE.names

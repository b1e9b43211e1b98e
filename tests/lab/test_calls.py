"""Real calls through a real Asterisk become what calls.md says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.contracts.calls import CallRecord
from shared.sandbox.demo import is_settled
from shared.testing.waiting import eventually
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.priority import going_first
from tests.lab.asterisk.server import PHONES
from tests.lab.asterisk.sipp import Sipp
from tests.lab.calls import Lab
from tests.lab.mesh import agi_environment, running_here
from tests.lab.routed_calls import CALLS
from tests.lab.table import EXPECTED, ROWS, Row, all_of, as_cells, given

#: More only make a machine of two cores late with its answers.
_AT_ONCE = 8


@dataclass(slots=True)
class Outcome:
    """What callmesh says of a call, or what went wrong while it was placed."""

    cells: list[dict[str, str]] = field(default_factory=list)
    #: Bytes of the files that the call's recordings name.
    recordings: list[int] = field(default_factory=list)
    records: list[CallRecord] = field(default_factory=list)
    fault: Exception | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """By name of the call, and the subjects of all entries in the CRM."""

    calls: dict[str, Outcome]
    entries: list[str]
    #: By name of the call, what Asterisk said of it meanwhile.
    seen: dict[str, str]


@pytest.fixture(scope="module")
def told(
    asterisk_lab: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    """All calls that the chosen tests are about, placed side by side."""
    chosen = [item for item in request.session.items if item.path == request.path]
    names = [item.callspec.params.get("name") for item in chosen if hasattr(item, "callspec")]
    wanted = set(names) if len(names) == len(chosen) else set(ROWS)
    rows = [row for name, row in ROWS.items() if name in wanted]
    with (
        pytest.MonkeyPatch.context() as environment,
        going_first(),
        LoopbackNetwork() as network,
    ):
        for name, value in agi_environment(network).items():
            environment.setenv(name, value)
        yield asyncio.run(place_all(rows, network, tmp_path_factory.mktemp("lab")))


async def place_all(rows: Sequence[Row], network: LoopbackNetwork, folder: Path) -> Told:
    async with AsyncExitStack() as stack:
        everybody = [call for row in rows for call in all_of(row)]
        mesh, pbx, platform = await stack.enter_async_context(
            running_here(folder, everybody, network)
        )
        sipp = Sipp(network, folder)
        stack.push_async_callback(sipp.close)
        screens = [asyncio.create_task(mesh.follow(str(number))) for number in PHONES]
        await eventually(lambda: platform.metrics.value("callmesh_live_streams") == len(screens))
        lab, places = Lab(network, sipp, mesh, pbx), asyncio.Semaphore(_AT_ONCE)
        faults = await asyncio.gather(*(placed(lab, row, places) for row in rows))
        # Not before: who asks again and again is a load on the mesh that has to route.
        found = [
            Outcome(fault=fault) if fault else await outcome_of(lab, row)
            for row, fault in zip(rows, faults, strict=True)
        ]
        if any(outcome.fault for outcome in found):
            print(pbx.log)  # noqa: T201  pytest shows it with the calls that failed
        for screen in screens:
            screen.cancel()
        await asyncio.gather(*screens, return_exceptions=True)
        entries = [entry["Subject"] for entry in mesh.crm.records("Calls")]
    outcomes = dict(zip([row.name for row in rows], found, strict=True))
    return Told(outcomes, entries, lab.seen)


async def placed(lab: Lab, row: Row, places: asyncio.Semaphore) -> Exception | None:
    """What went wrong, if anything did."""
    try:
        async with places:
            await CALLS[row.name](lab, row)
    except (AssertionError, TimeoutError, OSError) as fault:
        return fault
    return None


async def outcome_of(lab: Lab, row: Row) -> Outcome:
    try:
        records = await settled(lab, row)
    except AssertionError as fault:
        return Outcome(fault=fault)
    files = [Path(file) for record in records for file in record.recordings]
    return Outcome(
        [
            given(row, number) | as_cells(record, lab.mesh.shown(record), lab.mesh.entry(record))
            for number, record in enumerate(records)
        ],
        await asyncio.to_thread(lambda: [file.stat().st_size for file in files]),
        records,
    )


async def settled(lab: Lab, row: Row) -> list[CallRecord]:
    """The calls that came of it, oldest first, when nothing is expected to follow."""
    expected = EXPECTED[row.name]
    callers = {Row(cells).caller for cells in expected}
    entries = sum(cells["CRM entry"] != "-" for cells in expected)
    found: list[CallRecord] = []

    async def all_there() -> bool:
        records = [r for r in await lab.mesh.calls() if r.caller and r.caller.label in callers]
        found[:] = sorted(records, key=lambda record: str(record.started_at))
        over = [record for record in found if record.ended_at is not None]
        done = [record for record in over if is_settled(record)]
        return len(over) >= len(expected) and len(done) >= entries

    await eventually(all_there)
    return found


@pytest.mark.parametrize("name", list(ROWS))
def test_a_real_call_becomes_its_row(told: Told, name: str) -> None:
    outcome = told.calls[name]
    if outcome.fault is not None:
        raise outcome.fault

    assert outcome.cells == EXPECTED[name]


def test_every_call_has_one_entry_and_no_second(told: Told) -> None:
    wanted = [cells for rows in EXPECTED.values() for cells in rows if cells["CRM entry"] != "-"]

    assert len(told.entries) == len(set(told.entries)) == len(wanted)


@pytest.mark.parametrize("name", ["answered", "transfer_blind", "click"])
def test_the_recording_that_a_call_names_holds_its_talk(told: Told, name: str) -> None:
    """One file a call, also after a transfer; a second of it is 16 kB behind a header of 44 bytes."""
    (size,) = told.calls[name].recordings

    assert size > 16_000


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("manager", 0, "at 133: free"),
        ("manager_busy", 0, "at 134: free"),
        ("manager_busy", 1, "at 134: busy"),
        ("manager_paused", 0, "at 136: break"),
    ],
)
def test_the_trace_names_the_manager_and_what_he_does(
    told: Told, name: str, number: int, said: str
) -> None:
    (manager,) = steps(told, name, number, "manager")

    assert said in manager


@pytest.mark.parametrize("name", ["split"])
def test_a_split_goes_by_the_rule_that_was_drawn(told: Told, name: str) -> None:
    (drawn,) = steps(told, name, 0, "split")
    route = records(told, name)[0].route

    assert route is not None
    assert route.rule in {"one-half", "other-half"}
    assert drawn.startswith(f"rule:{route.rule}, ")
    assert [text.split()[0] for text in steps(told, name, 0, "rule")] == ["halves", route.rule]


@pytest.mark.parametrize("name", ["queue_priority"])
def test_who_has_a_priority_is_served_before_who_came_first(told: Told, name: str) -> None:
    """And the channel has what the rule hands to the PBX."""
    early, late = records(told, name)
    first, second = early.answered_at, late.answered_at
    shown = told.seen[name]

    assert shown.index("prio: 7") < shown.index("prio: 0")
    assert "CRM_TIER=LAB\n" in shown
    assert "CRM_PRIORITY=7\n" in shown
    assert first is not None
    assert second is not None
    assert second < first


def records(told: Told, name: str) -> list[CallRecord]:
    """Raises: what went wrong while the call was placed."""
    outcome = told.calls[name]
    if outcome.fault is not None:
        raise outcome.fault
    return outcome.records


def steps(told: Told, name: str, number: int, step: str) -> list[str]:
    """What the trace of a call's decision says of a kind of step."""
    route = records(told, name)[number].route
    assert route is not None
    return [one.detail for one in route.trace if one.step == step]


def test_every_call_of_the_table_can_be_placed() -> None:
    assert set(ROWS) == set(CALLS)

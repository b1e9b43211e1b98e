"""Every recording in tests/data/pbx, read as the mesh reads the PBX of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from shared.contracts.calls import CallEvent
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiParser
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.generic.adapter import GenericSettings, generic_adapter
from shared.pbx.port import Phones, RawHook, Sighting
from shared.pbx.threecx.reader import ThreeCxReader
from shared.pbx.uis.legs import legs_of
from shared.pbx.uis.notifications import UisHooks
from shared.pbx.uis.report import Report
from shared.pbx.wazo.reader import WazoReader
from tests.unit.shared.pbx.freeswitch import event_streams
from tests.unit.shared.pbx.threecx.samples import records_in, replayed
from tests.unit.shared.pbx.yeastar import yeastar_kit

DATA = Path(__file__).parents[1] / "data" / "pbx"
_PHONES = Phones(
    extensions=frozenset({"101", "102", "103"}),
    users={
        "25": "101",
        "26": "102",
        **{f"71710{n}-0000-4000-8000-000000000{n}": str(n) for n in (101, 102, 103)},
    },
)
#: When hooks came, where their own clock counts for nothing.
_CAME = {
    "uis": datetime(2026, 3, 4, 7, 16, tzinfo=UTC),
    "generic": datetime(2026, 11, 21, 10, 1, tzinfo=UTC),
}


@dataclass(frozen=True, slots=True)
class Recording:
    kind: str
    name: str
    read: Callable[[str], Sequence[Sighting]]

    def told(self) -> list[tuple[CallEvent, datetime, str]]:
        """
        What is told of its calls, when, and by which key, each once. The calls' ids are of this
        recording alone, for some recordings are of one call.
        """
        found: dict[tuple[type, str, str], tuple[CallEvent, datetime, str]] = {}
        for one in self.read(self.name):
            if not isinstance(one.body, CallEvent):
                continue
            whose = call_id(self.kind, self.name, one.body.call_id)
            body = one.body.model_copy(update={"call_id": whose})
            found.setdefault((type(body), whose, one.key), (body, one.at, one.key))
        return list(found.values())


def recordings() -> list[Recording]:
    return [
        Recording(kind, path.name.removesuffix(ending), read)
        for kind, (folder, ending, read) in _KINDS.items()
        for path in sorted((DATA / folder).glob(f"*{ending}"))
    ]


def asterisk(name: str) -> list[Sighting]:
    tracker = CallTracker(
        tenant="acme", pbx="main", trunks=["trunk", "trunk2"], extensions=["101", "102", "103"]
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for message in AmiParser().feed((DATA / f"{name}.ami.txt").read_bytes()):
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        found += tracker.feed(message, now=now)
    found += tracker.tick(now + timedelta(seconds=1))
    assert tracker.live_calls == 0
    return found


def _freeswitch(name: str) -> list[Sighting]:
    return event_streams.replayed(event_streams.stream(name))


def _yeastar(name: str) -> list[Sighting]:
    return yeastar_kit.by_websocket(yeastar_kit.steps(name))


def _threecx(name: str) -> list[Sighting]:
    records = records_in(DATA / "threecx" / f"{name}.jsonl")
    timed = [(datetime.fromisoformat(json.loads(record)["at"]), record) for record in records]
    return replayed(ThreeCxReader(tenant="acme", pbx="main"), timed)


def _wazo(name: str) -> list[Sighting]:
    reader = WazoReader(tenant="acme", pbx="main", base="https://wazo.example")
    reader.know(_PHONES)
    pairs = (line.split(b"\t", 1) for line in records_in(DATA / "wazo" / f"{name}.tsv"))
    return replayed(reader, [(datetime.fromisoformat(at.decode()), told) for at, told in pairs])


def _uis(name: str) -> list[Sighting]:
    """The notifications and, where there is one, the report."""
    zone = ZoneInfo("Europe/Moscow")
    hooks = UisHooks("acme", "uis", zone)
    found: list[Sighting] = []
    for body in (DATA / "uis" / f"{name}.hooks.jsonl").read_bytes().splitlines():
        hook = RawHook(content_type="application/json", body=body, received_at=_CAME["uis"])
        found += hooks.read(hook, _PHONES).sightings
    report = DATA / "uis" / f"{name}.report.json"
    if report.exists():
        legs = json.loads(report.read_text())["result"]["data"]
        session = str(legs[0]["call_session_id"])
        told = Report("acme", "uis", session, _PHONES, "https://app.uiscom.ru")
        found += told.sightings(legs_of(legs, session, zone))
    return found


def _generic(name: str) -> list[Sighting]:
    hooks = generic_adapter(GenericSettings(), tenant="acme", pbx="door").hooks
    assert hooks is not None
    body = (DATA / "generic" / f"{name}.json").read_bytes()
    return list(hooks.read(RawHook(body=body, received_at=_CAME["generic"]), _PHONES).sightings)


_KINDS: dict[str, tuple[str, str, Callable[[str], Sequence[Sighting]]]] = {
    "asterisk": (".", ".ami.txt", asterisk),
    "freeswitch": ("freeswitch", ".events.txt", _freeswitch),
    "threecx": ("threecx", ".jsonl", _threecx),
    "wazo": ("wazo", ".tsv", _wazo),
    "yeastar": ("yeastar", ".jsonl", _yeastar),
    "uis": ("uis", ".hooks.jsonl", _uis),
    "generic": ("generic", ".json", _generic),
}

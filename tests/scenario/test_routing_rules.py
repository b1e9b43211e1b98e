"""Routing in the whole mesh: what rules say, by every way of asking."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.contracts.routing import DestinationKind, RouteReason
from shared.ids import new_id
from shared.runtime.platform import Choice
from shared.sandbox import people
from shared.sandbox.crm import SandboxCrm
from shared.secrets import SecretBox, new_key
from shared.site.file import WholeSite, read_site_file
from shared.site.parts import Sealing
from shared.site.rules import conditions
from shared.site.rules.conditions import Operator
from shared.site.rules.places import plain_in
from shared.site.rules.subjects import Ask
from shared.testing.builders import HERE
from shared.testing.waiting import eventually
from tests.contract.test_custom_crm import (
    certificates,  # noqa: F401  a fixture: pytest finds it by its name
)
from tests.scenario.routing_kit import (
    Asker,
    Question,
    Shown,
    asking,
    site_text,
)

TABLE = Path(__file__).parents[1] / "data" / "rules" / "scenarios.md"
LONDON = ZoneInfo("Europe/London")
#: Fields of their own that the tenant's CRM has.
OWN_FIELDS = ("Balance", "Last_Order", "Note", "Tags")


def cells_under(heading: str) -> list[dict[str, str]]:
    """Rows of the one table under that heading."""
    part = TABLE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    columns, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [dict(zip(columns, row, strict=True)) for row in rows]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table of calls."""

    name: str
    asked: Question
    #: None: now.
    when: datetime | None
    #: ``101``, ``busy``; None: nobody has told.
    agent: tuple[str, str] | None
    expected: Shown

    @classmethod
    def of(cls, row: dict[str, str]) -> Line:
        given = {name: "" if cell == "-" else cell for name, cell in row.items()}
        extension, _, status = given["agents"].partition(" ")
        when = datetime.fromisoformat(given["when"]) if given["when"] else None
        return cls(
            name=row["call"],
            asked=Question(
                did=given["called"],
                caller=given["caller"],
                ivr=given["menu"],
                digits="-" if given["digits"] == "none" else given["digits"],
            ),
            when=when.replace(tzinfo=LONDON) if when else None,
            agent=(extension, status) if extension else None,
            expected=Shown(
                goes_to=row["goes to"],
                reason=row["reason"],
                rule=row["rule"],
                told=row["told"],
                row=row["row"],
                value=row["value"],
            ),
        )

    def told_apart(self, face: str, found: Shown) -> str | None:
        """How *found* differs from what is expected; None: it does not."""
        wanted, places = self.expected, self.expected.goes_to.split(" or ")
        if found.goes_to in places:
            wanted = replace(wanted, goes_to=found.goes_to)
        if face == "fastagi":
            wanted = replace(wanted, row="-", value="-")
        return None if found == wanted else f"{self.name}, {face}:\n  {wanted}\n  {found}"


LINES = [Line.of(row) for row in cells_under("Calls")]


# -- the table ---------------------------------------------------------------------------------


@pytest.fixture
def site() -> WholeSite:
    sealing = Sealing(SecretBox([new_key()]), {}, Path())
    text = site_text(crm="http://127.0.0.1:1")
    (found,) = read_site_file(text, source="site.yaml", sealing=sealing, around=HERE)
    return found


def test_the_table_has_everything_that_a_rule_can_say(site: WholeSite) -> None:
    rows = [row for rule in site.rules for row in rule.rows]
    tests = [test for row in rows if row.condition for test in conditions.tests_in(row.condition)]
    assert {test.operator for test in tests} == set(Operator)
    assert {subject.ask for rule in site.rules for subject in rule.subjects} == set(Ask)
    ways = {
        str(way) for rule in site.rules for _, several in rule.ways for way in plain_in(several)
    }
    assert {way.partition(":")[0] for way in ways} == {*DestinationKind, "manager", "rule"}


def test_the_table_takes_each_row_of_each_rule_and_has_every_reason(site: WholeSite) -> None:
    shown = [line.expected for line in LINES]
    taken = {(one.rule, one.row) for one in shown if one.row != "-"}
    lead_on = {("front", "1")}
    rows = {(rule.name, str(n)) for rule in site.rules for n, _ in enumerate(rule.rows, start=1)}
    # Those of the rules that are about their defaults are taken by no call.
    about_defaults = {"account-in-the-wrong-module", "voicemail-yes", "login-refused"}
    untaken = {(name, row) for name, row in rows - taken - lead_on if name not in about_defaults}
    assert untaken == {("manager", "4"), ("open-never", "2")}
    # A CRM that does not answer in time is in test_routing_faults.py.
    assert {one.reason for one in shown} == set(RouteReason) - {RouteReason.OUT_OF_TIME}


@pytest.fixture
def own_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    known = people.MODULE_FIELDS
    monkeypatch.setitem(known, "Contacts", (*known["Contacts"], *OWN_FIELDS))


@pytest.fixture
async def crm_url(crm: SandboxCrm, own_fields: None) -> str:
    """Of the sandbox CRM with the people of the first table in it."""
    owners = {user["full_name"]: user["id"] for user in people.USERS}
    for place, row in enumerate(cells_under("Who is in the CRM besides")):
        first, _, last = row["name"].partition(" ")
        record = {
            "id": f"829914000000610{place:03}",
            "First_Name": first,
            "Last_Name": last,
            "Full_Name": row["name"],
            "Phone": row["number"],
            **json.loads(row["fields"].strip("`")),
        }
        if row["owner"] != "-":
            record["Owner"] = {"id": owners[row["owner"]], "name": row["owner"]}
        crm.put("Contacts", record)
    return f"http://127.0.0.1:{await crm.start()}"


async def test_a_call_goes_where_the_table_says_whoever_asks(
    choice: Choice, crm: SandboxCrm, crm_url: str
) -> None:
    wrong: list[str | None] = []
    async with asking(choice, site_text(crm=crm_url)) as asker:
        for line in LINES:
            wrong += [await without_a_call(asker, line)]
        live = [line for line in LINES if line.when is None]
        # First those of whom nothing is told.
        live.sort(key=lambda line: line.agent or ("", ""))
        agents = Agents(asker)
        for agent, lines in groupby(live, key=lambda line: line.agent):
            if agent is not None:
                await agents.become(agent)
            for line in lines:
                wrong += [found async for found in by_every_face(asker, line)]
    found = [text for text in wrong if text is not None]
    assert not found, "\n".join(found)
    # The connection's login, and of two rules each its own; the one that is refused is a fourth.
    assert crm.asked_for_tokens >= 4


async def without_a_call(asker: Asker, line: Line) -> str | None:
    """Supposed are the time and the agent's state, where the line has any."""
    more: dict[str, Any] = {}
    if line.when is not None:
        more["at"] = line.when.isoformat()
    if line.agent is not None:
        extension, status = line.agent
        more["agents"] = {extension: "busy" if status == "on a call" else status}
    decision = await asker.by_explain(line.asked, **more)
    return line.told_apart("explain, supposed", Shown.of(decision))


async def by_every_face(asker: Asker, line: Line) -> AsyncIterator[str | None]:
    asked = replace(line.asked, call=f"1795244075.{LINES.index(line)}")
    variables = Shown.of_variables(await asker.by_fastagi(asked))
    yield line.told_apart("fastagi", variables)
    for face, ask in (
        ("http", asker.by_http),
        ("bus", asker.by_bus),
        ("explain", asker.by_explain),
    ):
        found = Shown.of(await ask(asked))
        yield line.told_apart(face, found)
        if face != "explain" and found.goes_to != variables.goes_to:
            # By chance, but by the same for a call.
            yield f"{line.name}: {face} {found.goes_to}, fastagi {variables.goes_to}"


class Agents:
    """What the PBX tells of them, as PBXs tell; both are free once it has told of one."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        #: Extension → the call that it is on.
        self._calls: dict[str, str] = {}

    async def become(self, agent: tuple[str, str]) -> None:
        """Returns when decisions know it."""
        for extension in ("101", "102"):
            status = agent[1] if agent[0] == extension else "free"
            await self._told(extension, status)

    async def _told(self, extension: str, status: str) -> None:
        on_call = status == "on a call"
        at = self._asker.platform.clock.now().isoformat()
        word = "free" if on_call else status
        events = [{"event": "agent_status", "at": at, "extension": extension, "status": word}]
        if call := self._calls.pop(extension, ""):
            events += [{"event": "ended", "at": at, "call": call}]
        if on_call:
            call = self._calls[extension] = f"with-{extension}-{new_id().hex}"
            about = {"at": at, "call": call}
            events += [
                {**about, "event": "started", "direction": "inbound", "caller": ""},
                {**about, "event": "answered", "extension": extension},
            ]
        status_code, answer = await self._asker.send("POST", "/v1/hooks/door", {"events": events})
        assert status_code == 202, answer

        async def is_known() -> bool:
            return await self._seen(extension) == ("busy" if on_call else word)

        await eventually(is_known)

    async def _seen(self, extension: str) -> str:
        """What decisions know: a draft rule hands it to the PBX."""
        draft = {
            "name": "seen",
            "variables": {"CRM_SEEN": f"agent.{extension}"},
            "rows": [{"destination": "queue:any"}],
            "default": "queue:any",
        }
        decision = await self._asker.by_explain(
            Question(did="", caller=""), rule=draft, rule_name="seen"
        )
        return decision.attributes["CRM_SEEN"]


async def test_calls_are_shared_out_by_percent_and_a_call_keeps_its_share(
    choice: Choice, crm_url: str
) -> None:
    async with asking(choice, site_text(crm=crm_url), services=("routing",)) as asker:
        calls = [
            Question(did="442079460011", caller="07700900145", call=f"1795244076.{n}")
            for n in range(100)
        ]
        first = [(await asker.by_fastagi(one))["CRM_DEST"] for one in calls]
        again = [str((await asker.by_bus(one)).destination) for one in calls]
    assert again == first
    # The calls' ids are always these: it is by chance, but not another time.
    assert 35 <= first.count("queue:east") <= 65
    assert first.count("queue:east") + first.count("queue:west") == 100

"""
A working day of an office with retailCRM, as a script: who calls whom when, what is pressed where,
and what the CRM has to have of it at the end, reckoned from the script alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.clock import ManualClock
from shared.sandbox.site import TENANT
from tests.contract.retailcrm_server import KEY, RetailCrm
from tests.contract.uis_kit import TOKEN
from tests.scenario.edge_kit import BEFORE_REPORT, Exchange, Office
from tests.scenario.uis_calls_kit import MOSCOW, UisCall

SHOPS = {"shop1": "+74999999999", "shop2": "+74998888888"}
QUEUE = 90
#: A status in retailCRM's words and ours → the account's.
AT_THE_ACCOUNT = {
    "free": "available",
    "busy": "do_not_disturb",
    "break": "break",
    "dinner": "not_at_workplace",
}


@dataclass(frozen=True)
class Manager:
    extension: str
    employee: int
    user: int


MANAGERS = tuple(Manager(f"10{n}", 24 + n, 40 + n) for n in range(1, 6))

SITE = """\
version: 1
tenants:
  - tenant: {tenant}
    region: RU
    zone: Europe/Moscow
    pbx:
      - name: uis
        kind: uis
        call_api: http://127.0.0.1:{uis}/call/v4.0
        data_api: http://127.0.0.1:{uis}/data/v2.0
        access_token: {token}
        virtual_number: "74993720692"
        recordings: http://127.0.0.1:{uis}
        branches: {branches}
    crm:
      - name: shop
        template: retailcrm
        parameters: {{api_url: "{crm}", external_phones: "74999999999,74998888888"}}
        credentials: {{api_key: {key}}}
        journal: {journal}
        status: {{tell: true}}
        telephony: {{registered: true}}
    dialing:
      numbers:
        shops: {{shop1: "+74999999999", shop2: "+74998888888"}}
    agents:
{agents}
    rules:
      - name: shops
        dids: ["74999999999", "74998888888"]
        crm: shop
        field: vip
        within: 10s
        rows:
          - {{operator: "=", value: "yes", destination: [manager, "queue:sales"]}}
        default: [manager, "queue:sales"]
"""


def site_text(uis: Exchange, crm: RetailCrm, journal: str) -> str:
    """With an agent more than retailCRM has users: nobody there is 99."""
    branches = [f'"extension:{m.extension}": {m.employee}' for m in MANAGERS]
    agents = [
        f'      - {{extension: "{m.extension}", pbx_user: "{m.employee}", '
        f'users: {{shop: "{m.user}"}}}}'
        for m in MANAGERS
    ] + ['      - {extension: "106", pbx_user: "39", users: {shop: "99"}}']
    return SITE.format(
        tenant=TENANT,
        uis=uis.account.port,
        crm=crm.url,
        key=KEY,
        token=TOKEN,
        journal=journal,
        branches="{" + ", ".join([*branches, f'"queue:sales": {QUEUE}']) + "}",
        agents="\n".join(agents),
    )


Step = tuple[int, Callable[[], Awaitable[None]]]


@dataclass
class Day:
    """*cards* and *table*: what the CRM has to have shown to whom, and to hold of each call."""

    clock: ManualClock
    uis: Exchange
    crm: RetailCrm
    cards: dict[int, list[tuple[str | None, ...]]] = field(
        default_factory=lambda: {manager.user: [] for manager in MANAGERS}
    )
    table: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Of each call of the table.
    kind_of: dict[str, str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: dict[Manager, str] = field(default_factory=lambda: dict.fromkeys(MANAGERS, "free"))
    #: Whose code somebody took out of the module.
    unknown: set[Manager] = field(default_factory=set)
    clicks: int = 0
    number: int = 0
    _unreported: set[str] = field(default_factory=set)
    _office: Office | None = None

    @property
    def office(self) -> Office:
        assert self._office is not None
        return self._office

    def in_office(self, office: Office) -> None:
        self._office = office

    def stranger(self) -> str:
        self.number += 1
        return f"7912555{self.number:04}"

    # -- the parts of a call -------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.clock.now().replace(microsecond=0)

    def _card(self, manager: Manager, *card: str | None) -> None:
        if manager not in self.unknown:
            self.cards[manager.user].append(card)

    async def rings(self, call: UisCall, *group: Manager) -> None:
        for manager in group:
            await self.office.notify(call.rings(manager.employee, self.now))
            if not call.is_click:
                self._card(manager, "in", f"+{call.contact}", f"+{call.virtual}", None)

    async def answers(self, call: UisCall, manager: Manager) -> None:
        await self.office.notify(call.answers(manager.employee, self.now))
        if call.is_click:
            self._card(manager, "out", f"+{call.contact}", f"+{call.virtual}", None)

    async def leaves(self, call: UisCall, manager: Manager) -> None:
        await self.office.notify(call.leaves(manager.employee, self.now))
        self._hangup(call, manager, "answered")

    def _hangup(self, call: UisCall, manager: Manager, what: str) -> None:
        self._card(manager, "hangup", f"+{call.contact}", f"+{call.virtual}", what)

    async def ends(self, call: UisCall, owner: Manager | None, hangups: dict[Manager, str]) -> None:
        await self.office.notify(call.ends(self.now))
        for manager, what in hangups.items():
            self._hangup(call, manager, what)
        self.table[call.reference] = self.row(call, owner)
        self._unreported.add(call.reference)
        self.kind_of[call.reference] = f"{'click' if call.is_click else 'call'} {len(call.asked)}"

    def row(self, call: UisCall, owner: Manager | None) -> dict[str, Any]:
        """What the upload has to say."""
        talked = call.talked
        assert call.ended is not None
        own = call.asked[0].answered
        if not call.is_click:
            first = call.asked[0].rang
            until = next((leg.answered for leg in call.asked if leg.answered), call.ended)
        elif talked and own is not None and call.picked_up is not None:
            # The customer's phone rings when the agent has picked up.
            first, until = own, call.picked_up
        else:  # one that is busy does not ring
            first = until = call.ended
        row: dict[str, Any] = {
            "date": call.began.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S"),
            "type": "out" if call.is_click else "in",
            "phone": f"+{call.contact}",
            "result": "answered" if talked else "busy" if call.is_click else "no answer",
            "duration": talked,
            "durationWaiting": int((until - first).total_seconds()),
            "externalId": call.reference,
            # Which of the own numbers was called, or is shown: it says for which shop the call is.
            "externalPhone": f"+{call.virtual}",
        }
        if owner is not None:
            row["userId"] = owner.user
        if talked:
            row["recordUrl"] = self.uis.recording_of(call)
        return row

    # -- calls ---------------------------------------------------------------------------------

    async def routed(self, contact: str, did: str, expected: int) -> None:
        answer = await self.office.route(contact, did)
        assert answer == {"returned_code": expected}, (contact, self.statuses)

    def comes_in(self, contact: str, shop: str) -> UisCall:
        return self.uis.comes_in(contact, SHOPS[shop][1:])

    def to_manager(self, contact: str, shop: str, manager: Manager, talk: int) -> list[Step]:
        """A customer whose manager is free is put through to him; and while they talk another is not."""
        self.kinds["manager"] += 1
        calls: list[UisCall] = []
        did = SHOPS[shop][1:]

        async def begins() -> None:
            await self.routed(contact, did, manager.employee)
            calls.append(self.comes_in(contact, shop))
            await self.office.notify(calls[0].incoming(self.now))

        async def is_busy() -> None:
            await self.routed(contact, did, QUEUE)

        return [
            (0, begins),
            (2, lambda: self.rings(calls[0], manager)),
            (6, lambda: self.answers(calls[0], manager)),
            (8, is_busy),
            (6 + talk, lambda: self.ends(calls[0], manager, {manager: "answered"})),
        ]

    def to_queue(
        self, contact: str, shop: str, group: list[Manager], talk: int, *, routed: bool = True
    ) -> list[Step]:
        """It rings at all of the group; the first of them answers, or nobody where *talk* is 0."""
        self.kinds["queue" if talk else "missed"] += 1
        calls: list[UisCall] = []

        async def begins() -> None:
            if routed:
                await self.routed(contact, SHOPS[shop][1:], QUEUE)
            calls.append(self.comes_in(contact, shop))
            await self.office.notify(calls[0].incoming(self.now))

        async def ends() -> None:
            hangups = dict.fromkeys(group, "no answered")
            if talk:
                hangups[group[0]] = "answered"
            only = group[0] if talk or len(group) == 1 else None
            await self.ends(calls[0], only, hangups)

        answer: list[Step] = [(9, lambda: self.answers(calls[0], group[0]))] if talk else []
        return [
            (0, begins),
            (1, lambda: self.rings(calls[0], *group)),
            *answer,
            (9 + (talk or 10), ends),
        ]

    def transferred(self, contact: str, shop: str, first: Manager, second: Manager) -> list[Step]:
        self.kinds["transfer"] += 1
        calls: list[UisCall] = []

        async def begins() -> None:
            calls.append(self.comes_in(contact, shop))
            await self.office.notify(calls[0].incoming(self.now))

        return [
            (0, begins),
            (1, lambda: self.rings(calls[0], first)),
            (5, lambda: self.answers(calls[0], first)),
            (25, lambda: self.leaves(calls[0], first)),
            (27, lambda: self.rings(calls[0], second)),
            (31, lambda: self.answers(calls[0], second)),
            (62, lambda: self.ends(calls[0], second, {second: "answered"})),
        ]

    def click(self, manager: Manager, contact: str, shop: str, talk: int) -> list[Step]:
        """At a record of *shop*; the customer is busy where *talk* is 0."""
        self.kinds["click" if talk else "busy"] += 1
        calls: list[UisCall] = []

        async def clicks() -> None:
            asked = self.crm.click(manager.user, f"+{contact}", shop=shop)
            answer = await self.office.done(asked, of="the click")
            assert answer.status == 200, answer.body
            self.clicks += 1
            calls.append(self.uis.ordered[-1])
            order = self.uis.asked("start.employee_call")[-1]
            assert order["virtual_phone_number"] == SHOPS[shop][1:]
            assert order["employee"] == {"id": manager.employee}

        async def picks_up() -> None:
            calls[0].picks_up(manager.employee, self.now)

        async def ends() -> None:
            if not talk:
                calls[0].reason = "subscriber_busy"
            await self.ends(calls[0], manager, {manager: "answered"} if talk else {})

        answer: list[Step] = [(11, lambda: self.answers(calls[0], manager))] if talk else []
        return [
            (0, clicks),
            (1, lambda: self.rings(calls[0], manager)),
            (5, picks_up),
            *answer,
            (11 + talk, ends),
        ]

    # -- the course of the day -----------------------------------------------------------------

    async def play(self, *calls: list[Step], apart: int = 1) -> None:
        """All at once, begun *apart* seconds from each other."""
        begins = self.now + timedelta(seconds=1)
        steps = [
            (begins + timedelta(seconds=number * apart + second), number, step)
            for number, call in enumerate(calls)
            for second, step in call
        ]
        for at, _, step in sorted(steps, key=lambda one: one[:2]):
            await self.office.pass_to(at)
            await step()
            # The mesh has real time for all of it before the next second comes.
            await self.office.quiet()
            # Who lost a call by another's answer may have been told already.
            assert all(
                len(self.crm.shown_to(user)) >= len(cards) for user, cards in self.cards.items()
            ), f"the cards of call {self.number}"
        await self.office.pass_to(self.clock.now() + BEFORE_REPORT)
        await self.office.until(self._is_reported, of="the reports", due=timedelta(minutes=1))
        await self.office.quiet()

    async def _is_reported(self) -> bool:
        """Whether all calls so far were asked for, and their recordings are known."""
        asked = {one["filter"]["value"] for one in self.uis.asked("get.call_legs_report")}
        for call in self.uis.calls.values():
            if call.reference in self._unreported and call.session in asked:
                record = await self.office.record(call)
                if record is not None and (record.recordings or not call.talked):
                    self._unreported.discard(call.reference)
        return not self._unreported

    async def until(self, hour: int, minute: int) -> None:
        """Moscow's time."""
        now = self.clock.now().astimezone(MOSCOW)
        at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        assert at >= now, f"it is {now:%H:%M:%S} already"
        await self.office.pass_to(at, step=timedelta(seconds=15))

    async def does(self, manager: Manager, status: str, where: str) -> None:
        self.statuses[manager] = status
        if where == "crm":
            answer = await self.office.done(
                self.crm.change_status(manager.user, status), of="the change"
            )
            assert answer is not None
            assert answer.status == 202, answer.body
        elif where == "pbx":
            self.uis.does(manager.employee, AT_THE_ACCOUNT[status])
        else:
            path = f"/v1/agents/{manager.extension}/status"
            code, said = await self.office.ask("PUT", path, {"status": status})
            assert code == 202, said
        await self.office.quiet()
        assert await self.agree(), f"{manager.extension} is {status}, but not on all sides"

    async def agree(self) -> bool:
        """Whether all three sides know what every manager is doing."""
        _, found = await self.office.ask("GET", "/v1/agents")
        known = {one["extension"]: one.get("status", "free") for one in found["agents"]}
        return all(
            self.crm.users[manager.user].status == status
            and self.uis.employees[manager.employee] == AT_THE_ACCOUNT[status]
            and known[manager.extension] == status
            for manager, status in self.statuses.items()
        )

    def differences(self) -> list[str]:
        """Where the CRM has a call otherwise than the table."""
        return [
            f"{self.kind_of[key]} of {wanted['date']}: {name} is {there.get(name)!r}, "
            f"not {wanted.get(name)!r}"
            for key, wanted in self.table.items()
            for there in (self.crm.calls.get(key, {}),)
            for name in sorted(wanted.keys() | there.keys())
            if wanted.get(name) != there.get(name)
        ]

    def shown(self) -> dict[int, list[tuple[str | None, ...]]]:
        """The cards, as :attr:`cards` has them."""
        names = ("type", "phone", "externalPhone", "hangupStatus")
        return {
            user: [tuple(card.get(name) for name in names) for card in self.crm.shown_to(user)]
            for user in self.cards
        }

"""What an administrator would try of a UIS account, one thing after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shared.clock import Clock
from shared.errors import BadSetting, MeshError, Rejected
from shared.pbx.lines import text_of
from shared.pbx.port import Finding, Phones
from shared.pbx.uis.jsonrpc import JsonRpc
from shared.pbx.uis.settings import UisSettings

_WITHIN = timedelta(seconds=5)
_MOST_NAMED = 5
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class UisCheck:
    """*phones* None: the site's agents are not compared with the account's employees."""

    settings: UisSettings
    calls: JsonRpc
    data: JsonRpc
    clock: Clock
    phones: Phones | None

    async def __call__(self) -> AsyncIterator[Finding]:
        """Raises nothing."""
        yield self._zone()
        async for finding in self._data_api():
            yield finding
        yield await self._call_api()

    def _zone(self) -> Finding:
        try:
            self.settings.time_zone()
        except BadSetting as error:
            return Finding("time zone", error.message)
        return Finding("time zone")

    async def _data_api(self) -> AsyncIterator[Finding]:
        what = f"Data API at {self.data.host}"
        try:
            account = await self.data.call("get.account", {}, within=_WITHIN)
        except MeshError as error:
            yield Finding(what, error.message)
            return
        yield Finding(what)
        yield self.data.clock_finding()
        if (finding := self._account_zone(account)) is not None:
            yield finding
        try:
            found = await self.data.call(
                "get.employees",
                {"fields": ["id", "full_name"], "limit": _PAGE, "offset": 0},
                within=_WITHIN,
            )
        except MeshError as error:
            yield Finding("employees", error.message)
        else:
            yield Finding("employees", self._employees_fault(found.get("data")))

    async def _call_api(self) -> Finding:
        """
        ``list.calls`` may be of a component that click-to-call does not need; that refusal, too,
        comes from an API that knows the key and the address.
        """
        what = f"Call API at {self.calls.host}"
        try:
            await self.calls.call("list.calls", {}, within=_WITHIN)
        except Rejected as error:
            if error.details.get("mnemonic") != "component_disabled":
                return Finding(what, error.message)
        except MeshError as error:
            return Finding(what, error.message)
        return Finding(what)

    def _account_zone(self, account: dict[str, Any]) -> Finding | None:
        """Where the account says its zone: a wrong one makes the report's window miss the call."""
        holder = account.get("data")
        holder = holder[0] if isinstance(holder, list) and holder else holder
        theirs = holder.get("timezone") if isinstance(holder, dict) else None
        if not isinstance(theirs, str):
            return None
        try:
            ours, named = self.settings.time_zone(), ZoneInfo(theirs)
        except (BadSetting, ValueError, OSError, KeyError):
            return None
        now: datetime = self.clock.now()
        if now.astimezone(ours).utcoffset() == now.astimezone(named).utcoffset():
            return Finding("account's time zone")
        return Finding(
            "account's time zone",
            f"the account's is {named.key}, the site file says {self.settings.zone}: set `zone`",
        )

    def _employees_fault(self, rows: Any) -> str | None:
        """What does not fit between the account's employees and the site's agents."""
        people = {
            text_of(row.get("id")): text_of(row.get("full_name"), most=60)
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict) and text_of(row.get("id"))
        }
        if not people:
            return "the key's user sees no employee: give it the right to view employees"
        phones = self.phones
        if phones is None:
            return None
        without = sorted(phones.extensions - set(phones.users.values()))
        strangers = sorted(set(phones.users) - set(people)) if len(people) < _PAGE else []
        unused = sorted(set(people) - set(phones.users))
        faults = []
        if without:
            faults.append(
                f"agents without `pbx_user`: {_some(without)}; their rings are not seen and they "
                "cannot click to dial"
            )
        if strangers:
            faults.append(f"`pbx_user` of no employee of the account: {_some(strangers)}")
        if unused:
            named = [f"{user} {people[user]}".strip() for user in unused]
            faults.append(f"employees that no agent has: {_some(named)}")
        return "; ".join(faults) or None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more

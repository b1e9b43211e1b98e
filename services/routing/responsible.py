"""
Whose customer the caller is, and whether that one can be rung: the one whom the CRM's own method
names, where it has one; else who owns the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.routing.facts import Evidence, ManagerFound
from services.routing.owners import OwnerPhones
from services.routing.staff import Staff
from services.routing.trace import Trace
from shared.contracts.routing import DecideRoute
from shared.crm.connections import CrmConnections
from shared.crm.port import FreeManager, Priority
from shared.errors import MeshError
from shared.phone import PhoneNumber
from shared.site.accounts import account_of
from shared.site.models import CrmConnection, Site
from shared.site.rules.rule import RoutingRule

#: Kept back of the time for the CRM's own word: without it, whose phone the owner's is has to be found.
_FOR_THE_OWNER = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, of which tenant."""

    site: Site
    asked: DecideRoute
    number: PhoneNumber


@dataclass(frozen=True, slots=True)
class Managers:
    connections: CrmConnections
    phones: OwnerPhones
    staff: Staff

    async def find(
        self,
        rule: RoutingRule,
        caller: Caller,
        evidence: Evidence,
        *,
        within: timedelta,
        trace: Trace,
        priority: Priority = Priority.ROUTE,
        ask_crm: bool = True,
    ) -> ManagerFound:
        """*ask_crm* False: by *evidence* alone. Never raises."""
        crm = caller.site.crm_named(rule.crm) if rule.crm else None
        if crm is None:
            return _nobody(f"there is no CRM connection {rule.crm}")
        nobody_free = False
        if ask_crm and within > timedelta(0) and not caller.number.withheld:
            account = account_of(
                caller.site, crm, credentials=rule.credentials, login=login_of(rule)
            )
            try:
                connector = self.connections.connector(account)
                if connector.has_manager:
                    named = await connector.find_manager(
                        caller.number,
                        within=max(within - _FOR_THE_OWNER, within / 2),
                        priority=priority,
                    )
                    if named is not None:
                        return await self._named(caller, crm, named)
                    nobody_free = True
                    trace.note("manager", f"{crm.name} names nobody who is free")
            except MeshError as error:
                trace.note("manager", f"{crm.name} was asked: {error.message}")
        return await self._owner(caller, crm, evidence, nobody_free=nobody_free)

    async def _named(self, caller: Caller, crm: CrmConnection, named: FreeManager) -> ManagerFound:
        who = f"{crm.name} names user {named.user_id or 'without an id'}"
        extension = named.extension
        if extension is None or caller.site.agent_at(extension, caller.asked.pbx) is None:
            # Its code is none of ours: by the user, as everywhere else.
            extension = None
            if named.user_id is not None:
                extension = await self._phone_of(caller, crm, named.user_id)
        return self._at(caller.site, extension, who)

    async def _owner(
        self, caller: Caller, crm: CrmConnection, evidence: Evidence, *, nobody_free: bool
    ) -> ManagerFound:
        owner = next((c.owner_id for c in evidence.candidates if c.owner_id is not None), None)
        if owner is None:
            return _nobody("the caller's record has no owner")
        phone = await self._phone_of(caller, crm, owner)
        found = self._at(caller.site, phone, f"user {owner} owns the record")
        if nobody_free and found.extension is not None:
            said = f"user {owner} at {found.extension}: not free, as {crm.name} says"
            return ManagerFound(found.extension, free=False, said=said)
        return found

    async def _phone_of(self, caller: Caller, crm: CrmConnection, user_id: str) -> str | None:
        return await self.phones.phone_of(caller.site, crm, user_id, pbx=caller.asked.pbx)

    def _at(self, site: Site, extension: str | None, who: str) -> ManagerFound:
        if extension is None:
            return _nobody(f"{who}, and has no phone here")
        free = self.staff.is_free(site.tenant, extension)
        state = self.staff.seen(site.tenant, extension) or "free, as nobody says otherwise"
        return ManagerFound(extension, free, f"{who}; at {extension}: {state}")


def _nobody(said: str) -> ManagerFound:
    return ManagerFound(None, free=False, said=said)


def login_of(rule: RoutingRule) -> str:
    """The name of a login that is the rule's own; empty: that of the connection."""
    return rule.name if rule.credentials else ""

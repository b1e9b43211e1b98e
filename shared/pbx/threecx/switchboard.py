"""Orders to a 3CX: makecall."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Forbidden, NotFound, Rejected
from shared.pbx.jsonhttp import words_of
from shared.pbx.kept import Kept
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, HangUp, OnRefusal
from shared.pbx.threecx.api import ThreeCxApi
from shared.pbx.threecx.participants import (
    EXTENSION,
    Participant,
    call_name,
    named,
    number_in,
    participant,
    state_of,
)

_LOOK = timedelta(minutes=5)
#: ``finalstatus``, as a number in the type definitions and as a word in what servers send.
_SUCCESS = frozenset({"1", "success"})


class ThreeCxSwitchboard:
    """Nothing has to be open for orders; it is only tried whether 3CX takes the login."""

    def __init__(self, api: ThreeCxApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._kept = Kept(host=api.host, clock=clock)

    @property
    def fault(self) -> str | None:
        return self._kept.fault

    async def run(self, on_refusal: OnRefusal) -> None:
        await self._kept.run(self._look)

    async def _look(self) -> None:
        while True:
            await self._api.login()
            self._kept.up()
            await self._clock.sleep(_LOOK)

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        """
        3CX rings the extension's phone and then dials; for how long it rings, and which number the
        customer sees, are 3CX's settings.

        Raises: Rejected with 3CX's words, Unavailable with ``sent``.
        """
        try:
            answer = await self._api.post(
                "callcontrol",
                order.extension,
                "makecall",
                body={"destination": order.number},
                within=within,
            )
        except NotFound:
            raise Rejected(
                f"3CX lets this API client control no extension {order.extension}: list it in "
                "Integrations > API, and see that a phone or app of it is connected"
            ) from None
        except Forbidden as error:
            raise Rejected(error.message) from None
        except ContractError:
            return DialReceipt()  # it took the order; what it said of it cannot be read
        return self._receipt(answer, order.number)

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        """By the phones that are in it, as far as 3CX shows them to this API client."""
        if call.pbx_call_id is None:
            raise Rejected("it is not known what 3CX calls this call: end it at the phone")
        try:
            present = _present(await self._api.get("callcontrol"))
            ours = [one for one in present if named(call.pbx_call_id, one)]
            # The agent's own first: the others mostly go with it.
            dropped = False
            for one in sorted(ours, key=lambda one: one.dn != call.extension):
                dropped = await self._drop(one, within=within, optional=dropped) or dropped
        except (Forbidden, NotFound, ContractError) as error:
            raise Rejected(error.message) from None

    async def _drop(self, one: Participant, *, within: timedelta, optional: bool) -> bool:
        """Whether it was there. Raises: Rejected and Forbidden, unless *optional*; Unavailable."""
        path = ("callcontrol", one.dn, "participants", str(one.number), "drop")
        try:
            await self._api.post(*path, body={}, within=within)
        except NotFound:
            return False
        except ContractError:
            return True  # done; what was said of it cannot be read
        except (Rejected, Forbidden):
            if not optional:
                raise
            return False
        return True

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        raise Rejected("3CX's Call Control API sets no status of users; agents set it in the app")

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        return status

    def _receipt(self, answer: Any, number: str) -> DialReceipt:
        told = answer if isinstance(answer, dict) else {}
        final = told.get("finalstatus")
        if final is not None and str(final).lower() not in _SUCCESS:
            words = told.get("reasontext") or told.get("reason") or final
            raise Rejected(f"3CX does not make the call: {words_of(words)}")
        result = told.get("result")
        call = result.get("callid") if isinstance(result, dict) else None
        if not isinstance(call, int) or isinstance(call, bool):
            return DialReceipt()
        return DialReceipt(call_name(call, number, self._clock.now()))


def _present(state: Any) -> list[Participant]:
    """The phones that are in calls; raises: ContractError."""
    found = []
    for dn, (kind, listed) in state_of(state).items():
        for values in listed if kind == EXTENSION else []:
            if (number := number_in(values)) is not None:
                with suppress(ContractError):
                    found.append(participant(values, dn=dn, number=number))
    return found

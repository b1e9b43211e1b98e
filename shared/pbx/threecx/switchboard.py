"""Orders to a 3CX: makecall."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Forbidden, NotFound, Rejected
from shared.pbx.jsonhttp import words_of
from shared.pbx.kept import Kept
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, OnRefusal
from shared.pbx.threecx.api import ThreeCxApi
from shared.pbx.threecx.participants import call_name

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
        3CX rings the extension's phone and then dials; for how long it rings is 3CX's setting.

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

    async def set_status(self, agent: AgentAt, status: AgentStatus, *, within: timedelta) -> None:
        raise Rejected("3CX's Call Control API sets no status of users; agents set it in the app")

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

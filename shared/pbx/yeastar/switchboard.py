"""Orders to a Yeastar: click-to-call, and what an agent is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Forbidden, Rejected, Throttled, Unavailable
from shared.pbx.kept import Kept
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, OnRefusal
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.api import YeastarApi

_LOGIN = timedelta(seconds=10)
#: More often than a token ends, so that an order finds a good one.
_LOOK = timedelta(minutes=2)

#: The search finds parts of names and numbers too: of 100 also 1001 and 2100.
_FIRST_PAGE = {"page": "1", "page_size": "100"}

PRESENCE_OF_STATUS = {
    AgentStatus.FREE: "available",
    AgentStatus.BUSY: "do_not_disturb",
    AgentStatus.BREAK: "away",
    AgentStatus.DINNER: "lunch",
    AgentStatus.OFFLINE: "off_work",
}


class YeastarSwitchboard:
    """A :class:`Switchboard`."""

    def __init__(self, api: YeastarApi, *, auto_answer: bool, clock: Clock) -> None:
        self._api = api
        self._auto_answer = auto_answer
        self._clock = clock
        self._kept = Kept(host=api.host, clock=clock)

    @property
    def fault(self) -> str | None:
        return self._kept.fault

    async def run(self, on_refusal: OnRefusal) -> None:
        try:
            await self._kept.run(self._serve)
        finally:
            await self._api.leave()

    async def _serve(self) -> None:
        while True:
            await self._api.ready(within=_LOGIN)
            self._kept.up()
            await self._clock.sleep(_LOOK)

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        # How long the agent's phone rings is set at the extension: the API takes no time for it.
        body = {
            "caller": order.extension,
            "callee": order.number,
            "dial_permission": order.extension,
            "auto_answer": "yes" if self._auto_answer else "no",
        }
        with _as_the_port_says():
            answer = await self._api.ask("POST", "call/dial", within=within, body=body)
        call_id = fields.text(answer.data.get("call_id"))
        if call_id is None:
            raise Unavailable(
                f"the PBX took the order and names no call: is {order.extension} an extension?",
                sent=True,
            )
        return DialReceipt(call_id)

    async def set_status(self, agent: AgentAt, status: AgentStatus, *, within: timedelta) -> None:
        with _as_the_port_says():
            query = {**_FIRST_PAGE, "search_value": agent.extension}
            found = await self._api.ask("GET", "extension/search", within=within, query=query)
            known = _id_of(agent.extension, found.data.get("data"))
            if known is None:
                raise Rejected(f"the PBX has no extension {agent.extension}")
            body = {"id": known, "presence_status": PRESENCE_OF_STATUS[status]}
            await self._api.ask("POST", "extension/update", within=within, body=body)


def _id_of(extension: str, found: object) -> int | None:
    for entry in found if isinstance(found, list) else []:
        if isinstance(entry, dict) and fields.text(entry.get("number")) == extension:
            known = entry.get("id")
            return known if isinstance(known, int) and not isinstance(known, bool) else None
    return None


@contextmanager
def _as_the_port_says() -> Iterator[None]:
    """An order is rejected, or it is not known whether it was taken; there is no third."""
    try:
        yield
    except (Forbidden, Throttled) as error:
        raise Unavailable(error.message, sent=False) from None
    except ContractError as error:
        raise Unavailable(error.message, sent=error.details.get("sent", True)) from None

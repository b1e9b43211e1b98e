"""Orders to a Yeastar: click-to-call, and what an agent is doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Forbidden, Rejected, Throttled, Unavailable
from shared.pbx.kept import Kept
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, HangUp, OnRefusal
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.api import YeastarApi
from shared.pbx.yeastar.members import Kind, Status, call_report
from shared.pbx.yeastar.presence import PRESENCES, words_of
from shared.pbx.yeastar.refusals import NO_SUCH_INTERFACE, ApiRejected

_LOGIN = timedelta(seconds=10)
#: More often than a token ends, so that an order finds a good one.
_LOOK = timedelta(minutes=2)

#: The search finds parts of names and numbers too: of 100 also 1001 and 2100.
_FIRST_PAGE = {"page": "1", "page_size": "100"}


class YeastarSwitchboard:
    """A :class:`Switchboard`."""

    def __init__(
        self,
        api: YeastarApi,
        *,
        auto_answer: bool,
        clock: Clock,
        statuses: Mapping[AgentStatus, str] | None = None,
    ) -> None:
        self._api = api
        self._words = words_of(statuses or {})
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
        # How long the agent's phone rings is set at the extension, and what the customer sees at
        # the outbound route: the API takes neither.
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

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        if call.pbx_call_id is None:
            raise Rejected("it is not known what the PBX calls this call: end it at the phone")
        with _as_the_port_says():
            channels = await self._channels(call.pbx_call_id, within=within)
            fault: ApiRejected | None = None
            for channel in channels:
                try:
                    body = {"channel_id": channel}
                    await self._api.ask("POST", "call/hangup", within=within, body=body)
                except ApiRejected as error:
                    fault = error
            # One may have gone with the one before it; whether somebody is left, the list says.
            if fault and await self._channels(call.pbx_call_id, within=within):
                raise fault

    async def _channels(self, call_id: str, *, within: timedelta) -> list[str]:
        """Of who is in the call still, phones first. None are there when it is over."""
        try:
            answer = await self._api.ask(
                "GET", "call/query", within=within, query={"call_id": call_id}
            )
        except ApiRejected as error:
            # There is no number for "no such call".
            if error.errcode == NO_SUCH_INTERFACE or error.token_ended:
                raise
            return []
        data = answer.data.get("data")
        calls = data if isinstance(data, list) else [data]
        members = [
            member
            for call in calls
            if isinstance(call, dict) and fields.text(call.get("call_id")) == call_id
            for member in call_report({"members": [], **call}).members
            if member.channel and member.status is not Status.BYE
        ]
        members.sort(key=lambda member: member.kind is not Kind.EXTENSION)
        return [member.channel for member in members]

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        presence = (self._words.word(status, own) or "").strip().lower()
        if presence not in PRESENCES:
            raise Rejected(
                f"a Yeastar has no presence {presence!r:.60}: it has {', '.join(sorted(PRESENCES))}"
            )
        with _as_the_port_says():
            query = {**_FIRST_PAGE, "search_value": agent.extension}
            found = await self._api.ask("GET", "extension/search", within=within, query=query)
            known = _id_of(agent.extension, found.data.get("data"))
            if known is None:
                raise Rejected(f"the PBX has no extension {agent.extension}")
            body = {"id": known, "presence_status": presence}
            await self._api.ask("POST", "extension/update", within=within, body=body)

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        return self._words.status(self._words.word(status, own) or "") or status


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

"""Orders to one Asterisk: click-to-call, and whether an agent takes calls of queues."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.contracts.dialing import DialReason
from shared.errors import ContractError, Rejected, Unavailable
from shared.pbx.asterisk.agents import REASONS, AgentDesk, paused_for
from shared.pbx.asterisk.ami_connect import AmiAddress
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.channels import CHECK_ENDPOINT
from shared.pbx.asterisk.events import CLICK_VARIABLE
from shared.pbx.asterisk.link import AmiLink
from shared.pbx.asterisk.reader import CHANNELS, MEMBERS
from shared.pbx.port import (
    AgentAt,
    DialReceipt,
    DialRequest,
    HangUp,
    OnOrder,
    OnRefusal,
    Phones,
)
from shared.pbx.statuses import StatusWords

log = structlog.get_logger(__name__)

_WANTED = frozenset({"OriginateResponse"})
#: Set on the agent's channel for the dialplan: the number that the customer shall see.
CALLER_ID_VARIABLE = "CRM_CALLER_ID"
#: What becomes part of a channel's name or a dialplan's target; ``&`` would ring a second phone.
_EXTENSION = re.compile(r"[A-Za-z0-9_.*#-]{1,32}")
_NUMBER = re.compile(r"\+?[0-9*#]{2,20}")
_CALLER_ID = re.compile(r"\+?[0-9]{2,20}")
_REFERENCE = re.compile(r"[A-Za-z0-9_.:-]{1,120}")
#: ``Reason`` of a failed OriginateResponse: it rang. 0 is a phone that could not even ring.
_RANG = "3"
#: Asterisk takes an order before its channel is there.
_CHANNEL_LAGS = timedelta(milliseconds=300)
#: Q.850: normal call clearing.
_CLEARING = "16"
_GONE = "no such channel"


class AsteriskSwitchboard:
    def __init__(
        self,
        address: AmiAddress,
        *,
        technology: str,
        outbound_context: str,
        clock: Clock,
        statuses: Mapping[AgentStatus, str] | None = None,
        on_order: OnOrder | None = None,
    ) -> None:
        self._technology = technology
        self._context = outbound_context
        self._clock = clock
        self._words = StatusWords(preset=REASONS, site=statuses or {})
        self._on_refusal: OnRefusal = _nobody
        self._link = AmiLink(
            address, wanted=_WANTED, clock=clock, on_event=self._on_event, on_order=on_order
        )

    @property
    def fault(self) -> str | None:
        if self._link.connected:
            return None
        return self._link.fault or "the connection is being opened"

    async def run(self, on_refusal: OnRefusal) -> None:
        self._on_refusal = on_refusal
        await self._link.run()

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        """
        The reference becomes the call's identity at the PBX, which refuses a second order with it
        while the call lives.
        """
        fields = self._originate(order)
        try:
            await self._link.action("Originate", fields, within=within, action_id=order.reference)
        except Unavailable as error:
            sent = error.details.get("sent", True)
            raise Unavailable(error.message, sent=sent) from error
        return DialReceipt()

    def _originate(self, order: DialRequest) -> dict[str, str | list[str]]:
        """Raises: Rejected."""
        _check(_EXTENSION, order.extension, "extension")
        _check(_NUMBER, order.number, "number")
        _check(_REFERENCE, order.reference, "reference")
        # Two underscores: the customer's leg inherits it.
        variables = [f"__{CLICK_VARIABLE}={order.reference}"]
        if order.caller_id is not None:
            _check(_CALLER_ID, order.caller_id, "caller id")
            variables.append(f"__{CALLER_ID_VARIABLE}={order.caller_id}")
        return {
            "Channel": f"{self._technology}/{order.extension}",
            "Context": self._context,
            "Exten": order.number,
            "Priority": "1",
            "CallerID": f'"Call {order.number}" <{order.number}>',
            "Timeout": str(round(order.ring_for / timedelta(milliseconds=1))),
            "Async": "true",
            "ChannelId": order.reference,
            "Variable": variables,
        }

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        """By the channels that are listed: a call ends too that the agent has passed on."""
        _check(_REFERENCE, call.reference, "reference")
        for last in (False, True):
            if channels := await self._channels_of(call.reference, within=within):
                for channel in channels:
                    await self._hang_up(channel, within=within)
                return
            if not last:
                await self._clock.sleep(_CHANNEL_LAGS)

    async def _channels_of(self, reference: str, *, within: timedelta) -> list[str]:
        """By name, the agent's own first."""
        try:
            items = await self._link.list_action(CHANNELS, {}, within=within)
        except Rejected:
            # Without that right the agent's own is what can be named: by its Uniqueid.
            return [reference]
        found = [item for item in items if item.get("Channel") and _is_of(item, reference)]
        found.sort(key=lambda item: item.get("Uniqueid") != reference)
        return [item.get("Channel") for item in found]

    async def _hang_up(self, channel: str, *, within: timedelta) -> None:
        """Raises: Rejected, Unavailable."""
        try:
            await self._link.action(
                "Hangup", {"Channel": channel, "Cause": _CLEARING}, within=within
            )
        except Rejected as error:
            if _GONE in error.message.lower():
                return  # with the one before it
            raise Rejected(
                f"{error.message}; manager.conf: the user needs call in write ="
            ) from None

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        """
        Pauses the agent in all queues, with the status as the reason, or ends the pause. Asterisk
        knows no other statuses.
        """
        _check(_EXTENSION, agent.extension, "extension")
        desk = AgentDesk(pbx="")
        desk.know(Phones(extensions=frozenset({agent.extension})))
        members = await self._link.list_action(MEMBERS, {}, within=within)
        interfaces = sorted(
            {
                member.get("Location") or member.get("Interface")
                for member in members
                if member.event == "QueueMember" and desk.agent_in(member) is not None
            }
        )
        if not interfaces:
            raise Rejected(
                f"extension {agent.extension} is a member of no queue: Asterisk pauses members of "
                "queues, and knows no other status of a phone"
            )
        away = status is not AgentStatus.FREE
        for interface in interfaces:
            fields: dict[str, str | list[str]] = {
                "Interface": interface,
                "Paused": "true" if away else "false",
            }
            if away:
                fields["Reason"] = self._words.word(status, own) or status.value
            try:
                await self._link.action("QueuePause", fields, within=within)
            except ContractError as error:
                raise Rejected(error.message) from error

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        """A reason that the site does not know is heard as a break."""
        if status is AgentStatus.FREE:
            return status
        return paused_for(self._words.word(status, own) or status.value, self._words)

    async def _on_event(self, message: AmiMessage) -> None:
        reference = message.action_id
        if message.get("Response") != "Failure" or reference.startswith(CHECK_ENDPOINT):
            return
        if not _REFERENCE.fullmatch(reference):
            return  # of another manager's making
        # By ActionID: for a repeated ChannelId the Uniqueid in it is that of the call that runs.
        await self._on_refusal(reference, refusal(message.get("Reason")))


def refusal(reason: str) -> DialReason:
    """What a failed OriginateResponse says of the agent's phone."""
    return DialReason.AGENT_NO_ANSWER if reason == _RANG else DialReason.AGENT_UNREACHABLE


def _is_of(item: AmiMessage, reference: str) -> bool:
    """Of a channel that is listed. After a call was joined to another its Linkedid is of that."""
    ids = (item.get("Uniqueid"), item.get("Linkedid"), item.variable(CLICK_VARIABLE))
    return reference in ids


def _check(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise Rejected(f"this is no {what} that can be dialled")


async def _nobody(_: str, __: DialReason) -> None:
    """Until somebody runs the switchboard."""

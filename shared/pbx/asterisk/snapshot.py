"""
What CoreShowChannels says of calls that are under way, for who did not see them begin. Pure.

Its items have no Timestamp. That a channel was dialled, and did not call, is told by its
application's data: AppDial's, AppQueue's and AppDial2's are all ``(Outgoing Line)``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.channels import LOCAL, endpoint_of, shown

#: Set at the entry of inbound calls and inherited: the number that was called.
DID_VARIABLE = "CRM_DID"
_OUTGOING = "(Outgoing Line)"
_OF_CALLERS = frozenset({"Dial", "Queue"})
#: ``1795244298.154``, or with systemname ``berlin-1795244298.154``.
_EPOCH = re.compile(r"(?:^|-)([0-9]{9,11})\.[0-9]+$")
_DURATION = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,2}):([0-9]{2})")
#: Longer than any call; a channel that hangs is not believed to have begun with its id.
_LONGEST = timedelta(days=1)
#: Both are told in whole seconds.
_ROUNDING = timedelta(seconds=2)
#: A dialplan's own targets are shorter than numbers outside.
_SHORTEST_DID = 6


@dataclass(frozen=True, slots=True)
class UnderWay:
    """
    A call that goes on. *lead* is the channel that it began with, or where that is gone the one
    that stands for it; *exten* what was dialled, as far as it can be known.
    """

    pbx_call_id: str
    linkedid: str
    lead: AmiMessage
    exten: str
    #: Trunks first: where one was dialled, the call leads outside.
    items: Sequence[AmiMessage]

    @property
    def is_led_by_its_first(self) -> bool:
        return self.lead.get("Uniqueid") == self.pbx_call_id

    @property
    def is_ending(self) -> bool:
        """Who called is gone, and those who were called do not talk with each other."""
        left = [item for item in self.items if item.get("ChannelStateDesc") == "Up"]
        return all(map(is_dialled, self.items)) and not self.is_led_by_its_first and len(left) < 2  # noqa: PLR2004  a talk takes two

    @property
    def queue(self) -> str | None:
        if self.lead.get("Application") != "Queue":
            return None
        return shown(self.lead.get("ApplicationData").partition(",")[0])

    def variable(self, name: str) -> str:
        return next((found for item in self.items if (found := item.variable(name))), "")


def under_way(items: Collection[AmiMessage], *, trunks: Collection[str]) -> UnderWay:
    """*items* share a Linkedid, and there is at least one."""

    def is_trunk(item: AmiMessage) -> bool:
        technology, endpoint = endpoint_of(item.get("Channel"))
        return technology != LOCAL and endpoint in trunks

    def place(item: AmiMessage) -> tuple[bool, bool, bool, str]:
        is_plumbing = endpoint_of(item.get("Channel"))[0] == LOCAL
        return not is_trunk(item), is_plumbing, is_dialled(item), item.get("Uniqueid")

    ordered = sorted(items, key=place)
    linkedid = ordered[0].get("Linkedid")
    first = next((item for item in ordered if item.get("Uniqueid") == linkedid), None)
    # A line that our phone dialled and then sent into the dialplan looks the same but for the DID.
    caller = next((i for i in ordered if is_trunk(i) and not is_dialled(i) and _did(i)), None)
    if caller is not None and (first is None or not is_trunk(first)):
        # Who called from outside was joined to an older call of our phones; for us it is the
        # caller's that goes on, as for those who saw it.
        return UnderWay(caller.get("Uniqueid"), linkedid, caller, _did(caller), ordered)
    if first is not None:
        return UnderWay(linkedid, linkedid, first, _exten(first, is_trunk(first)), ordered)
    # Who has called stands for the one that is gone; else a phone, as a line would look like a
    # caller.
    lead = next((i for i in ordered if is_calling(i)), None)
    lead = lead or next((i for i in ordered if not is_trunk(i)), ordered[0])
    return UnderWay(linkedid, linkedid, lead, "", ordered)


def is_dialled(item: AmiMessage) -> bool:
    return item.get("ApplicationData") == _OUTGOING


def is_calling(item: AmiMessage) -> bool:
    """It dials others, or waits for them in a queue."""
    return item.get("Application") in _OF_CALLERS and not is_dialled(item)


def began_at(call: UnderWay, *, now: datetime, ahead: timedelta) -> datetime:
    """
    By the PBX's clock, which is *ahead* of ours: by the second in the channel's id where that
    agrees with how long the channel is said to be there, or nothing else is said.
    """
    latest = now + ahead
    told = _EPOCH.search(call.pbx_call_id)
    born = datetime.fromtimestamp(int(told[1]), UTC) if told else None
    lasted = _duration(call.lead.get("Duration")) if call.is_led_by_its_first else None
    if born is not None and latest - _LONGEST < born <= latest + _ROUNDING:
        return min(born, latest)
    return latest if lasted is None else latest - min(lasted, _LONGEST)


def _duration(text: str) -> timedelta | None:
    found = _DURATION.fullmatch(text)
    if not found:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _did(item: AmiMessage) -> str:
    exten = item.get("Exten")
    looks_like_one = exten.lstrip("+").isdigit() and len(exten) >= _SHORTEST_DID
    return item.variable(DID_VARIABLE) or (exten if looks_like_one else "")


def _exten(item: AmiMessage, inbound: bool) -> str:
    if inbound:
        return _did(item)
    exten = item.get("Exten")
    return exten if exten.lstrip("+").isdigit() else ""

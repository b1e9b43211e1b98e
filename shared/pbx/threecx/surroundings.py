"""Who is who at a 3CX: by the types of its DNs and what the site says, never by a number's look. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contracts.calls import Direction, Party
from shared.pbx.port import Phones
from shared.pbx.threecx.participants import EXTENSION, EXTERNAL, Participant


@dataclass(slots=True)
class Surroundings:
    """*types* is DN → its type, as the last state said."""

    phones: Phones = field(default_factory=Phones)
    types: Mapping[str, str] = field(default_factory=dict)

    def kind_of(self, dn: str) -> str:
        """An extension that was made since the last state is not in it."""
        if dn in self.phones.trunks:
            return EXTERNAL
        return self.types.get(dn) or EXTENSION

    def party(self, seen: Participant) -> Party:
        """The other side."""
        if seen.party_type == EXTENSION:
            inside = seen.party_dn or seen.party_number
            return Party(extension=inside or None, name=seen.party_name)
        if seen.party_type != EXTERNAL and self._is_inside(seen.party_number):
            return Party(extension=seen.party_number, name=seen.party_name)
        return Party(number=seen.party_number or None, name=seen.party_name)

    def direction(self, seen: Participant) -> Direction:
        if not self._leads_outside(seen):
            return Direction.INTERNAL
        return Direction.OUTBOUND if seen.caller else Direction.INBOUND

    def far(self, seen: Participant) -> str:
        """The number by which the call is named: that of outside, else the one dialled inside."""
        if self._leads_outside(seen):
            return seen.party_number
        return (seen.party_dn or seen.party_number) if seen.caller else seen.dn

    def is_told_once(self, seen: Participant) -> bool:
        """Whether the caller's end alone tells what becomes of the other side."""
        if seen.party_type == EXTENSION:
            return seen.party_dn not in self.types
        return seen.party_type == EXTERNAL

    def _leads_outside(self, seen: Participant) -> bool:
        if seen.party_type in {EXTERNAL, EXTENSION}:
            return seen.party_type == EXTERNAL
        if seen.caller and seen.party_type:
            return False  # a queue, an announcement, the voicemail
        # A queue or route point in between, or nothing said yet: by whose number it is.
        return seen.did is not None or not self._is_inside(seen.party_number)

    def _is_inside(self, number: str) -> bool:
        return self.types.get(number) == EXTENSION or number in self.phones.extensions

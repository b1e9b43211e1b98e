"""Who is bridged with whom, since when, and who was. Pure."""

from __future__ import annotations

from datetime import datetime


class Pairs:
    """Channels by their ids. What is asked does not depend on the order of bridge and answer."""

    def __init__(self) -> None:
        self._partner: dict[str, str] = {}
        self._since: dict[str, datetime] = {}
        self._met: dict[str, str] = {}
        self._up: dict[str, datetime] = {}

    def up(self, one: str, at: datetime) -> datetime:
        """It is answered; the first word holds, and is given back."""
        return self._up.setdefault(one, at)

    def up_at(self, one: str) -> datetime | None:
        return self._up.get(one)

    def partner(self, one: str) -> str | None:
        return self._partner.get(one)

    def met(self, one: str) -> str | None:
        """With whom it is, or was last."""
        return self._met.get(one)

    def talk_since(self, one: str) -> datetime | None:
        """None unless it is in a bridge and both are answered."""
        other = self._partner.get(one)
        if other is None or one not in self._up or other not in self._up:
            return None
        return max(self._since[one], self._up[one], self._up[other])

    def bridge(self, one: str, other: str, at: datetime) -> list[str]:
        """Gives back those whom this leaves alone."""
        if self._partner.get(one) == other:
            return []
        alone = [*self.unbridge(one, ""), *self.unbridge(other, "")]
        self._partner |= {one: other, other: one}
        self._since |= {one: at, other: at}
        self._met |= {one: other, other: one}
        return [left for left in alone if left not in {one, other}]

    def unbridge(self, one: str, other: str) -> list[str]:
        """Both, where they are a pair still; without *other* whoever is with *one*."""
        partner = self._partner.get(one)
        if partner is None or (other and partner != other):
            return []
        del self._partner[one], self._partner[partner]
        return [one, partner]

    def forget(self, one: str) -> None:
        self.unbridge(one, "")
        for known in (self._since, self._met, self._up):
            known.pop(one, None)

"""Events of the mesh → deliveries, for whoever wants to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import DeliveryBook
from services.gateway.subscribers.public import public_event
from services.gateway.subscribers.sending import Sender
from shared.contracts.envelope import Message


@dataclass(frozen=True, slots=True)
class Noting:
    book: SubscriberBook
    deliveries: DeliveryBook
    sender: Sender

    async def note(self, message: Message[Any]) -> None:
        """Once per subscriber, however often the message comes. Raises: Unavailable."""
        wanting = self.book.wanting(message.tenant, message.type)
        if not wanting:
            return
        event = public_event(message)
        said = event.model_dump(mode="json")
        for to in wanting:
            if to.settings.wants(said):
                await self.deliveries.open(to, event)
                self.sender.wake(to.uid)

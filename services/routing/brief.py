"""As much of what a CRM holds as a decision carries: it is kept, told, logged and shown. Pure."""

from __future__ import annotations

import json

from pydantic import JsonValue

from shared.contracts.contacts import ContactCard

LONGEST = 1000
_JSON = json.JSONEncoder(ensure_ascii=False)


def brief(value: JsonValue) -> JsonValue:
    """The value itself; of one of more than 1000 characters its beginning, as text."""
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, list | dict):
        text = ""
        # Piece by piece: most of a large one is never written.
        for piece in _JSON.iterencode(value):
            text += piece
            if len(text) > LONGEST:
                return _cut(text)
    return value


def brief_card(card: ContactCard) -> ContactCard:
    fields = {name: brief(value) for name, value in card.fields.items()}
    return card if fields == card.fields else card.model_copy(update={"fields": fields})


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

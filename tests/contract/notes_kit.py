"""Notes of requests as a test takes them: in a list, with a look for what must not be in them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from shared.net.requests import Detail, RequestNote


@dataclass
class Notes:
    """As :class:`shared.net.requests.RequestNotes`."""

    detail: Detail = Detail.BODIES
    taken: list[RequestNote] = field(default_factory=list)

    def note(self, note: RequestNote) -> None:
        assert self.detail.keeps(failed=note.error is not None)
        self.taken.append(note)

    def of(self, *operations: str) -> list[RequestNote]:
        return [one for one in self.taken if one.operation in operations]

    @property
    def text(self) -> str:
        """All that is in them."""
        parts = ("method", "url", "error", "request", "answer", "operation", "connection")
        return "\n".join(
            str(getattr(one, part)) for one in self.taken for part in parts if getattr(one, part)
        )

    def leaked(self, secrets: Iterable[str]) -> list[str]:
        """Those of *secrets* that are in a note, however they are written there."""
        text = self.text
        return [one for one in secrets if any(form in text for form in forms_of(one))]


def forms_of(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(json.dumps(secret)[1:-1])[1:-1]
    yield html.escape(secret)
    # Within a longer text it is cut where three bytes end; two of three beginnings will do.
    for lead in ("", "user:"):
        coded = base64.b64encode(f"{lead}{secret}".encode()).decode().rstrip("=")
        if len(coded) > 8:
            yield coded[:-2]

"""Each request to a CRM as a note: what it was for, and what came of it; secrets are masked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

import structlog
from pydantic import BaseModel
from yarl import URL

from shared.clock import Clock
from shared.crm.engine.orders import Order
from shared.crm.engine.showing import body_of, secrets_in, shown
from shared.crm.form.manifest import Event, Manifest
from shared.crm.form.requests import Request
from shared.crm.masking import Mask, printable
from shared.crm.rendering import Rendered, Scope
from shared.errors import MeshError
from shared.net.client import Answer
from shared.net.requests import MOST_OF_A_BODY, AskedSide, RequestNote, RequestNotes, asked_for

log = structlog.get_logger(__name__)

#: Of sessions that follow each other, and requests with a signature of their own.
_MOST_MASKS = 16
#: Bytes: to mask a longer body would hold up everybody else.
_LONGEST_BODY = 64 * 1024
#: Of what a sign-in sends and gets, its address and the CRM's words are enough.
_SIGN_IN = "session"
_OTHER = "other"


@dataclass(slots=True)
class Noted:
    """What comes of a request; *refusal* is the CRM's own word, without secrets."""

    answer: Answer | None = None
    refusal: str | None = None


class CrmNotes:
    """Of one connection."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        tenant: str,
        connection: str,
        notes: RequestNotes,
        clock: Clock,
    ) -> None:
        self._manifest = manifest
        self._tenant = tenant
        self._connection = connection
        self._notes = notes
        self._clock = clock
        self._operations = operations_of(manifest)
        self._masks: OrderedDict[tuple[frozenset[str], frozenset[str]], Mask] = OrderedDict()

    @contextmanager
    def noting(self, order: Order, sent: Rendered, scope: Scope) -> Iterator[Noted]:
        """What is done within is the request; *scope*: what *sent* was filled from."""
        noted, at, began, fault = Noted(), self._clock.now(), perf_counter(), None
        try:
            yield noted
        except MeshError as error:
            fault = error.message
            raise
        except asyncio.CancelledError:
            fault = "given up while it was under way"
            raise
        finally:
            took = timedelta(seconds=perf_counter() - began)
            fault = fault or noted.refusal
            if self._notes.detail.keeps(failed=fault is not None):
                try:
                    self._notes.note(
                        RequestNote(
                            tenant=self._tenant,
                            side=AskedSide.CRM,
                            connection=self._connection,
                            operation=self._operation(order),
                            at=at,
                            method=sent.method,
                            took=took,
                            status=noted.answer.status if noted.answer is not None else None,
                            sent_bytes=len(sent.body or b""),
                            got_bytes=len(noted.answer.body) if noted.answer is not None else 0,
                            **self._masked(order, sent, scope, noted.answer, fault),
                        )
                    )
                except Exception:
                    # What was asked counts, not the note of it.
                    log.exception("request_not_noted", connection=self._connection)

    def _masked(
        self, order: Order, sent: Rendered, scope: Scope, answer: Answer | None, fault: str | None
    ) -> dict[str, Any]:
        mask = self._mask(sent, scope)
        found: dict[str, Any] = {
            "url": address(sent.url, mask),
            "error": printable(mask.text(fault)) if fault is not None else None,
        }
        bodies = self._notes.detail.keeps_bodies(failed=fault is not None)
        if bodies and order.after is not Event.AUTH:
            found["request"] = _short(sent.body, lambda: body_of(sent, mask))
            if answer is not None:
                found["answer"] = _short(answer.body, lambda: shown(answer.body, mask))
        return found

    def _operation(self, order: Order) -> str:
        if order.after is Event.AUTH:
            return _SIGN_IN
        return self._operations.get(id(order.request)) or asked_for(_OTHER)

    def _mask(self, sent: Rendered, scope: Scope) -> Mask:
        """To make one takes longer than to use it."""
        key = secrets_in(sent, manifest=self._manifest, scopes=(scope,))
        mask = self._masks.pop(key, None)
        if mask is None:
            secrets, names = key
            mask = Mask(secrets, names=names, sign_in=False)
        self._masks[key] = mask
        while len(self._masks) > _MOST_MASKS:
            self._masks.popitem(last=False)
        return mask


def address(url: URL, mask: Mask) -> str:
    """*url* as it may be kept. A name and password in it are not."""
    return printable(mask.address(str(url.with_user(None) if url.user else url)))


def _short(body: bytes | None, show: Callable[[], str]) -> str:
    if len(body or b"") > _LONGEST_BODY:
        return f"({len(body or b'')} bytes)"
    return show()[:MOST_OF_A_BODY]


#: What a template's requests are for, by the beginning of the place where they stand.
_PLACES = (
    ("contacts.*.search", "search"),
    ("contacts.*.create", "create"),
    ("follow_ups", "follow_up"),
    ("telephony.module", "module"),
    ("telephony.cards", "card"),
    ("telephony.status", "status"),
)


def operations_of(manifest: Manifest) -> Mapping[int, str]:
    """By the ``id`` of each request of the template, which lives as long as that does."""
    return {id(request): _named(place) for place, request in _requests("", manifest)}


def _named(place: str) -> str:
    words = place.split(".")
    if words[0] == "contacts" and len(words) > 1:
        words[1] = "*"
    general = ".".join(words)
    return next((name for start, name in _PLACES if general.startswith(start)), words[0])


def _requests(place: str, part: Any) -> Iterator[tuple[str, Request]]:
    if isinstance(part, Request):
        yield place, part
    if isinstance(part, BaseModel):
        inner: list[tuple[str, Any]] = [(n, getattr(part, n)) for n in type(part).model_fields]
    elif isinstance(part, Mapping):
        # A contact type's name may hold anything.
        inner = [(str(name).replace(".", "_"), value) for name, value in part.items()]
    elif isinstance(part, tuple | list):
        inner = [(str(number), value) for number, value in enumerate(part)]
    else:
        return
    for name, value in inner:
        yield from _requests(f"{place}.{name}" if place else name, value)

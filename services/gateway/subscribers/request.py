"""A delivery as the request that goes out. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import SecretStr
from yarl import URL

from services.gateway.subscribers.delivery import Delivery
from services.gateway.subscribers.public import variables
from services.gateway.subscribers.signing import signed
from services.gateway.subscribers.subscriber import SubscriberSettings
from shared.crm.language.evaluate import within_steps
from shared.crm.language.jsonbody import fill
from shared.crm.language.jsontext import write_json
from shared.crm.language.url import compile_url
from shared.errors import ContractError

#: Of a body, in bytes; and characters of values that it may be made of, for a template can name the
#: whole event a thousand times.
_LARGEST_BODY = _MOST_OF_VALUES = 1_000_000
#: Of all texts of one try together, some 20 ms of the loop.
_MOST_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Webhook:
    """*headers* are those of the subscriber, opened, and the signature; the first are *secrets*."""

    method: str
    url: URL
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def webhook_of(
    one: Delivery,
    settings: SubscriberSettings,
    *,
    headers: Mapping[str, str],
    secrets: tuple[SecretStr, ...],
    at: datetime,
) -> Webhook:
    """
    *at*: of this try. Raises: ContractError for an event that the texts cannot take, and for texts
    that take too long.
    """
    with within_steps(_MOST_STEPS):
        url, body = _filled(one, settings)
    if len(body) > _LARGEST_BODY:
        raise ContractError(f"body: comes out as over {_LARGEST_BODY} bytes")
    return Webhook(
        settings.method,
        url,
        {
            "Content-Type": "application/json",
            **headers,
            **signed(secrets, webhook_id=one.webhook_id, at=at, body=body),
        },
        body,
        tuple(headers.values()),
    )


def _filled(one: Delivery, settings: SubscriberSettings) -> tuple[URL, bytes]:
    known = variables(json.loads(one.event), settings.types)
    try:
        url = URL(compile_url(settings.url).text(known, trusted={}), encoded=True)
    except ValueError:
        raise ContractError("url: comes out as no address") from None
    if settings.body is None:
        return url, one.event.encode()
    return url, write_json(fill(settings.body, _Counted(known), {})).encode()


class _Counted(Mapping[str, Any]):
    """Variables that can be read so often, and no more. Raises: ContractError."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._sizes: dict[str, int] = {}
        self._read = 0

    def __getitem__(self, name: str) -> Any:
        value = self._variables[name]
        if name not in self._sizes:
            self._sizes[name] = len(write_json(value))
        self._read += self._sizes[name]
        if self._read > _MOST_OF_VALUES:
            raise ContractError(f"body: is made of over {_MOST_OF_VALUES} characters of the event")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

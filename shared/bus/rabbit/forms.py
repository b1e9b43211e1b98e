"""What goes over the wire beside a message itself: the address, and the forms of AMQP messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from pydantic import SecretStr
from yarl import URL

from shared.bus.delivery import Refused
from shared.bus.rabbit.headers import whole
from shared.bus.rabbit.session import HEARTBEAT_SECONDS
from shared.contracts.envelope import Message
from shared.errors import BadSetting


def amqp_of(message: Message[Any], mode: DeliveryMode) -> AmqpMessage:
    headers: dict[str, Any] = {"x-tenant": message.tenant}
    if message.traceparent:
        headers["traceparent"] = message.traceparent
    return AmqpMessage(
        message.encode(),
        headers=headers,
        message_id=str(message.id),
        type=type(message.body).wire_name(),
        app_id=message.source,
        content_type="application/json",
        delivery_mode=mode,
    )


def broker_of(url: SecretStr) -> URL:
    """With our heartbeat, unless it has its own. Raises: BadSetting, which does not repeat it."""
    try:
        broker = URL(url.get_secret_value())
        (broker.host or "").encode("idna")
    except ValueError:
        broker = URL()
    if broker.scheme not in {"amqp", "amqps"} or not broker.host:
        raise BadSetting(
            "CALLMESH_AMQP_URL: not of the form amqp://user:password@host:port/vhost, or amqps://…"
        )
    return broker.with_query({"heartbeat": str(HEARTBEAT_SECONDS), **broker.query})


def kept(
    data: bytes,
    headers: dict[str, Any],
    message_id: str | None,
    content_type: str | None = "application/json",
) -> AmqpMessage:
    return AmqpMessage(
        data,
        headers=headers,
        message_id=message_id,
        content_type=content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
    )


def headers_of(refused: Refused) -> dict[str, Any]:
    headers: dict[str, Any] = {"x-error-code": refused.code, "x-error": refused.text}
    if refused.retry_after is not None:
        headers["x-retry-after-ms"] = round(refused.retry_after / timedelta(milliseconds=1))
    return headers


def refused_by(headers: Mapping[str, Any]) -> Refused:
    after = whole(headers, "x-retry-after-ms")
    return Refused(
        str(headers.get("x-error-code")),
        str(headers.get("x-error")),
        None if after is None else timedelta(milliseconds=after),
    )

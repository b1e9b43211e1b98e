"""Yeastar's webhooks: their signature, and what they say. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac

from pydantic import SecretStr

from shared.errors import ContractError, Forbidden
from shared.pbx.port import HookReading, Phones, RawHook
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.reader import Events


class YeastarHooks:
    """A :class:`HookReader` of the PBX's webhooks."""

    def __init__(self, events: Events, secret: SecretStr | None) -> None:
        self._events = events
        self._secret = secret

    def verify(self, hook: RawHook) -> None:
        """
        ``X-Signature`` is the Base64 of the HMAC-SHA256 of the raw body, by the webhook's `Secret`.
        It covers no time: what is sent again is told apart by what it says.
        """
        if self._secret is None:
            return
        due = hmac.digest(self._secret.get_secret_value().encode(), hook.body, hashlib.sha256)
        given = hook.headers.get("x-signature", "").strip()
        if not hmac.compare_digest(base64.b64encode(due), given.encode("utf-8", "replace")):
            raise Forbidden(
                "X-Signature does not fit: take the Secret of this webhook in Integrations > API "
                "for `webhook_secret`"
            )

    def read(self, hook: RawHook, phones: Phones) -> HookReading:
        if not hook.body.strip():
            raise ContractError("the webhook has no body: set its Request Method to POST")
        event = fields.load(hook.body, "the webhook's body")
        return HookReading(
            self._events.read(event, now=hook.received_at, phones=phones, calls=None)
        )

"""
Signatures of webhooks by the Standard Webhooks scheme (standardwebhooks.com, specification 1.0):
``webhook-id``, ``webhook-timestamp`` (seconds) and ``webhook-signature``, which is ``v1,`` and the
base64 of HMAC-SHA256 over ``id.timestamp.body``; several with blanks between. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from datetime import datetime

from pydantic import SecretStr

from shared.errors import ContractError
from shared.ids import new_secret_bytes

PREFIX = "whsec_"
#: The specification: 24 to 64 bytes.
_FEWEST, _MOST = 24, 64


def new_secret() -> SecretStr:
    return SecretStr(PREFIX + base64.b64encode(new_secret_bytes(32)).decode())


def check_secret(secret: SecretStr) -> None:
    """Raises: ContractError."""
    try:
        fits = _FEWEST <= len(_key(secret)) <= _MOST
    except (binascii.Error, ValueError):
        fits = False
    if not fits or not secret.get_secret_value().startswith(PREFIX):
        raise ContractError(
            f"secret: `{PREFIX}` and {_FEWEST} to {_MOST} bytes in base64; left out, one is made"
        )


def signed(
    secrets: Sequence[SecretStr], *, webhook_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """The headers. Whoever knows one of *secrets* can check them."""
    stamp = str(int(at.timestamp()))
    said = f"{webhook_id}.{stamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(_key(secret), said, "sha256")).decode()
        for secret in secrets
    ]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(signatures),
    }


def _key(secret: SecretStr) -> bytes:
    """Raises: ValueError."""
    text = secret.get_secret_value().removeprefix(PREFIX)
    return base64.b64decode(text.encode(), validate=True)

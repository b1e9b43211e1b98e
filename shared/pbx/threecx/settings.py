"""What a connection to a 3CX is set up with."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeCxSettings:
    """
    *url* is the address of the 3CX web client, without a path: ``https://acme.3cx.eu`` or
    ``https://pbx.example:5001``. *client_id* and *client_secret* (its API key) are of an API
    client of its own: 3CX honours one token of a client at a time. *fingerprint* is the SHA-256 of
    a certificate that no authority signed.
    """

    url: str
    client_id: str
    client_secret: SecretStr
    fingerprint: bytes | None = None

"""
Identities. Those of calls, events and their consequences are derived, not drawn: two replicas
that read the same PBX, or one handler that runs twice, come to the same ids, and a repeat is
dropped by its id.
"""

from __future__ import annotations

import secrets
from typing import Annotated
from uuid import UUID, uuid4, uuid5  # noqa: TID251  the one place that draws an id

from pydantic import StringConstraints

#: Also a word of routing keys and of document keys, so nothing that means something there.
TENANT_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"

TenantId = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
#: The name of a connection, rule or key within its tenant; the same alphabet as a tenant's.
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
#: A phone of the PBX, as it is dialled inside.
Extension = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*#-]{1,32}$")]

_NAMESPACE = UUID("6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11")


def new_id() -> UUID:
    return uuid4()


def derived_id(*parts: str) -> UUID:
    """The same *parts* always give the same id."""
    return uuid5(_NAMESPACE, "\x1f".join(parts))


def call_id(tenant_id: str, pbx: str, pbx_call_id: str) -> str:
    """
    Our id of a call: from the PBX connection and the PBX's own call identity
    (Asterisk: Linkedid, which repeats between PBXs unless ``systemname`` is set).
    """
    return str(derived_id("call", tenant_id, pbx, pbx_call_id))


def reference(identity: str) -> str:
    """
    Ten characters that stand for an id where a person or a CRM field sees it.

    They are the tail of the id, random in all bits: of 1,000,000 entries about one pair in
    two would meet once per 2^40 / 10^6 searches, and a hit is compared with the call as well.
    Who compares nothing, and drops what it has by this name, needs all of the id.
    """
    return identity.replace("-", "")[-10:]


def new_token(prefix: str) -> str:
    """A secret of 256 bits, with a prefix by which a leaked one is recognised."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def new_secret_bytes(length: int) -> bytes:
    """Of a secret whose form others have laid down."""
    return secrets.token_bytes(length)

"""What a connection to a Wazo is set up with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from shared.contracts.agents import AgentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class WazoSettings:
    """
    *url* is the address of the Wazo without a path: ``https://wazo.example``. *username* and
    *password* are of a user with purpose ``external_api``. With *tenant_uuid* only what belongs to
    that tenant is read. *context* is where click-to-call dials; without it the context of the
    agent's own line, which is asked for. *fingerprint* is the SHA-256 of a certificate that no
    authority signed. *statuses*: our status → the reason of a pause, where it is another.
    """

    url: str
    username: str
    password: SecretStr
    tenant_uuid: str | None = None
    context: str | None = None
    fingerprint: bytes | None = None
    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)

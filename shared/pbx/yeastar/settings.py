"""What has to be known of one Yeastar P-Series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import SecretStr

from shared.contracts.agents import AgentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class YeastarSettings:
    """
    *url* is the PBX's web address: ``https://192.0.2.20:8088`` on site, without a port in the cloud
    edition. *zone* is that of the PBX's clock (``Europe/Berlin``): its records of calls tell
    local times without one. *queues* are the numbers of its queues, where they are not of the
    preset range (6400 to 6499). *statuses*: our status → the presence, where it is another.
    """

    url: str
    client_id: str
    client_secret: SecretStr
    zone: str
    fingerprint: bytes | None = None
    events: Literal["websocket", "webhook"] = "websocket"
    webhook_secret: SecretStr | None = None
    queues: frozenset[str] = frozenset()
    #: Lets phones that can take the agent's leg of click-to-call by themselves.
    auto_answer: bool = False
    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)

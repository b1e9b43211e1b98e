"""Settings of gateway: CALLMESH_GATEWAY_…"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.moments import Duration
from shared.runtime.settings import Settings


class GatewaySettings(Settings):
    title: ClassVar[str] = "Service gateway"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_GATEWAY_")

    ask_within: Duration = Field(
        default=timedelta(seconds=5), description="Time for another service to answer a question."
    )
    dial_within: Duration = Field(
        default=timedelta(seconds=30),
        description="How old an order to dial may get before it is dropped.",
    )
    keep_audit: Duration = Field(
        default=timedelta(days=90), description="How long the audit log is kept."
    )

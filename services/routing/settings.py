"""Settings of routing: CALLMESH_ROUTING_…"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.moments import Duration
from shared.runtime.settings import Port, Settings


class RoutingSettings(Settings):
    title: ClassVar[str] = "Service routing"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_ROUTING_")

    agi_host: str = Field(default="127.0.0.1", description="Address of the FastAGI listener.")
    agi_port: Port = Field(default=4573, description="Its port; 0 takes a free one.")
    keep_decisions: Duration = Field(
        default=timedelta(days=90), description="How long decisions and their traces are kept."
    )

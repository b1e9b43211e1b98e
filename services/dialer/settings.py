"""Settings of dialer: CALLMESH_DIALER_…"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.moments import Duration
from shared.runtime.settings import Settings


class DialerSettings(Settings):
    title: ClassVar[str] = "Service dialer"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_DIALER_")

    order_within: Duration = Field(
        default=timedelta(seconds=5), description="Time for the PBX to accept an order to dial."
    )
    keep: Duration = Field(
        default=timedelta(days=30), description="How long orders and their states are kept."
    )

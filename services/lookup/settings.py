"""Settings of lookup: CALLMESH_LOOKUP_…"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.moments import Duration
from shared.runtime.settings import Settings


class LookupSettings(Settings):
    title: ClassVar[str] = "Service lookup"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_LOOKUP_")

    search_within: Duration = Field(
        default=timedelta(seconds=5),
        description="Time for one CRM to say whose number it is; then the lookup is tried again.",
    )
    users_every: Duration = Field(
        default=timedelta(hours=24), description="How often the CRMs' users are read again."
    )

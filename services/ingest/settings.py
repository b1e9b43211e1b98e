"""Settings of ingest: CALLMESH_INGEST_…"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import Settings


class IngestSettings(Settings):
    title: ClassVar[str] = "Service ingest"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_INGEST_")

    publish_at_once: Annotated[int, Field(ge=1, le=256)] = Field(
        default=32, description="Events of one PBX on their way to the bus at once."
    )

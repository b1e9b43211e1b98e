"""Settings of ingest: CALLMESH_INGEST_…"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.moments import Duration
from shared.runtime.settings import Settings


class IngestSettings(Settings):
    title: ClassVar[str] = "Service ingest"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_INGEST_")

    publish_at_once: Annotated[int, Field(ge=1, le=256)] = Field(
        default=32, description="Events of one PBX on their way to the bus at once."
    )
    keep_raw: Duration = Field(
        default=timedelta(days=1),
        description="How long what PBXs sent is kept as it came, for `callmesh replay`.",
    )
    report_within: Duration = Field(
        default=timedelta(hours=6),
        description="How long a PBX is asked for the record of a call that ended.",
    )

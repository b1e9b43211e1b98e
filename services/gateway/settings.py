"""Settings of gateway: CALLMESH_GATEWAY_…"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

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
        default=timedelta(days=90),
        description="How long the audit log is kept, and who listened to recordings.",
    )
    keep_deliveries: Annotated[Duration, Field(ge=timedelta(days=1))] = Field(
        default=timedelta(days=30),
        description="How long webhooks to subscribers are kept: those that came through, those that "
        "did not, and each try.",
    )
    recordings_dir: Path | None = Field(
        default=None,
        description="Folder of recordings that were fetched from PBXs; else `recordings` in the data "
        "folder. Not for files that are mounted here: those are read where they are.",
    )
    recordings_bytes: Annotated[int, Field(ge=1024 * 1024)] = Field(
        default=1024**3, description="How many bytes of them are kept."
    )
    recordings_keep: Duration = Field(
        default=timedelta(days=7), description="How long they are kept."
    )
    recording_bytes: Annotated[int, Field(ge=1024 * 1024)] = Field(
        default=256 * 1024**2, description="The largest recording that is fetched, in bytes."
    )
    recording_within: Duration = Field(
        default=timedelta(seconds=20),
        description="How long a listener waits for a recording that has to be fetched; it comes on "
        "behind.",
    )

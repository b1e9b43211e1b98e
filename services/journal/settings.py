"""Settings of journal: CALLMESH_JOURNAL_…"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.moments import Duration
from shared.runtime.settings import Settings


class JournalSettings(Settings):
    title: ClassVar[str] = "Service journal"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_JOURNAL_")

    write_within: Duration = Field(
        default=timedelta(seconds=10), description="Time for a CRM to take one entry."
    )
    give_up_after: Duration = Field(
        default=timedelta(days=7),
        description="How long after its first failure an entry is tried whose CRM is away or "
        "throttles; then it is dead. While the CRM has to be connected again the time stands.",
    )
    retry_first: Duration = Field(
        default=timedelta(seconds=2), description="Wait after the first failed try; it doubles."
    )
    retry_longest: Duration = Field(
        default=timedelta(minutes=15), description="The longest wait between tries."
    )
    silent_after: Annotated[Duration, Field(ge=timedelta(minutes=1))] = Field(
        default=timedelta(hours=12),
        description="A call of which nothing was heard for so long has ended, and nobody told: "
        "its end is that of its last event.",
    )
    at_once: Annotated[int, Field(ge=1, le=64)] = Field(
        default=8,
        description="Requests with entries on their way to one CRM connection at once, per "
        "process; a template may limit them further.",
    )

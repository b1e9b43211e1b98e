"""What a connection to a UIS account is set up with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr
from yarl import URL

from shared.contracts.agents import AgentStatus
from shared.errors import BadSetting

#: Our status → ``status`` of the Data API's employees.
STATUSES: Mapping[AgentStatus, str] = MappingProxyType(
    {
        AgentStatus.FREE: "available",
        AgentStatus.BUSY: "do_not_disturb",
        AgentStatus.BREAK: "break",
        AgentStatus.DINNER: "not_at_workplace",
        AgentStatus.OFFLINE: "not_at_work",
    }
)
_DATA_HOST = "dataapi."


@dataclass(frozen=True, slots=True, kw_only=True)
class UisSettings:
    """
    *data_token* is for an account whose Data API has a key of its own. *statuses* holds only what
    differs from :data:`STATUSES`; with *calls_available* that older flag is set in place of the
    status. *branches* and *numbers* say what a destination (``queue:support``) is in a scenario:
    the code of a branch, a number to call. *default_branch* is for a call without a destination.
    """

    call_api: str = "https://callapi.uiscom.ru/v4.0"
    data_api: str = "https://dataapi.uiscom.ru/v2.0"
    access_token: SecretStr
    data_token: SecretStr | None = None
    virtual_number: str
    zone: str = "Europe/Moscow"
    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)
    calls_available: bool = False
    branches: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    default_branch: int | None = None
    #: Where recordings are heard: https://app.uiscom.ru. Without it: from *data_api*.
    recordings: str | None = None

    def time_zone(self) -> ZoneInfo:
        """Raises: BadSetting."""
        try:
            return ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BadSetting(
                f"zone: there is no time zone {self.zone!r}; say the account's, such as "
                "Europe/Moscow or Asia/Dubai"
            ) from None

    def recordings_url(self) -> str:
        """``https://dataapi.uiscom.ru/v2.0`` has its recordings at ``https://app.uiscom.ru``."""
        if self.recordings:
            return self.recordings.rstrip("/")
        url = URL(self.data_api)
        host = url.host or ""
        if host.startswith(_DATA_HOST):
            url = url.with_host(f"app.{host.removeprefix(_DATA_HOST)}")
        return str(url.origin())

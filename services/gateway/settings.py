"""Settings of gateway: CALLMESH_GATEWAY_…"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict
from yarl import URL

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
    public_url: str | None = Field(
        default=None,
        description="The gateway's address as CRMs and browsers know it, such as "
        "`https://mesh.example`: signatures of hooks are over it, and a consent comes back to it.",
    )

    @field_validator("public_url")
    @classmethod
    def public_url_is_an_address(cls, text: str | None) -> str | None:
        if not text:
            return None
        try:
            url = URL(text)
        except ValueError:
            url = URL()
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("an address is needed: https://mesh.example")
        if url.user or url.password or url.raw_query_string or url.raw_fragment:
            raise ValueError("the address has no user, no query and no fragment")
        return text.rstrip("/")

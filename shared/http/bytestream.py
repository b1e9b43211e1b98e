"""Answers that are made while they are sent, however large they become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, StringConstraints


class ByteStream(BaseModel):
    """
    A file for the client to keep. Where *chunks* raise in the middle the connection is broken off:
    what is cut short never looks whole, as a chunked body has an end (RFC 9112, 7.1).
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    #: Of every one of its class, as the API's document names it.
    media: ClassVar[str] = "application/octet-stream"

    filename: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    total: int | None = Field(description="Pieces that come, as far as it is known; for progress.")
    chunks: SkipValidation[AsyncIterator[bytes]]

    @property
    def headers(self) -> dict[str, str]:
        found = {
            "Content-Type": self.media,
            "Content-Disposition": f'attachment; filename="{self.filename}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return found if self.total is None else {**found, "X-Total-Count": str(self.total)}

"""How a CRM tells that a contact changed: by a web hook, or by a list that is asked for."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.crm.form.access import ParameterName
from shared.crm.form.requests import HeaderName, Pages, Path, Request, Strict, Text
from shared.moments import Duration

#: For the text that is signed: the request as it came. ``Timestamp`` is that of the header.
HOOK_VARIABLES = frozenset({"Method", "Url", "Path", "Query", "Body", "Timestamp"})


class CheckKind(StrEnum):
    #: An HMAC over the request, by a secret that both sides know.
    HMAC = "hmac"
    #: A secret that comes along as it is.
    TOKEN = "token"  # noqa: S105  a kind
    #: Nothing but our own key in the URL.
    KEY = "key"


class Digest(StrEnum):
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


class DigestForm(StrEnum):
    HEX = "hex"
    BASE64 = "base64"


class SecretForm(StrEnum):
    TEXT = "text"
    #: Two digits a byte: the key of the HMAC is what they say.
    HEX = "hex"
    BASE64 = "base64"


class HookCheck(Strict):
    """Beside the API key in the hook's URL, which is always needed."""

    kind: CheckKind = CheckKind.KEY
    secret: ParameterName | None = Field(default=None, description="The credential's name.")
    secret_form: SecretForm = Field(
        default=SecretForm.TEXT, description="How the credential writes the key of an HMAC."
    )
    header: HeaderName | None = None
    query: str | None = Field(default=None, description="Where the token is a query parameter.")
    path: Path | None = Field(default=None, description="Where it is in the body.")
    digest: Digest = Digest.SHA256
    form: DigestForm = DigestForm.HEX
    text: Text = Field(default="{{.Body}}", description="What is signed.")
    prefix: str = Field(default="", description="Before the signature in the header: `sha256=`.")
    timestamp_header: HeaderName | None = None
    tolerance: Duration = Field(
        default=timedelta(minutes=5), description="How old a signed request may be."
    )

    @model_validator(mode="after")
    def has_what_its_kind_needs(self) -> Self:
        if self.kind is not CheckKind.KEY and self.secret is None:
            raise ValueError(f"kind {self.kind} needs `secret`: the name of a credential")
        if self.kind is CheckKind.HMAC and self.header is None:
            raise ValueError("kind hmac needs `header`: where the signature is")
        if self.kind is CheckKind.TOKEN and not (self.header or self.query or self.path):
            raise ValueError("kind token needs `header`, `query` or `path`")
        return self


class HookFormat(StrEnum):
    JSON = "json"
    #: ``contacts[update][0][id]=1`` is read as the structure that it means.
    FORM = "form"


class ChangeMap(Strict):
    """Paths within one event."""

    contact_id: Path | None = Field(default=None, description="An id, or a list of ids.")
    numbers: tuple[Path, ...] = Field(default=(), description="Numbers now and before.")

    @model_validator(mode="after")
    def says_something(self) -> Self:
        if self.contact_id is None and not self.numbers:
            raise ValueError("a change needs contact_id or numbers")
        return self


class Hook(Strict):
    check: HookCheck = HookCheck()
    format: HookFormat = HookFormat.JSON
    events: Path = Field(default="", description="Path to the list of events; empty: the body.")
    map: ChangeMap
    echo: Path | None = Field(
        default=None, description="A hook that is only a challenge: this is sent back."
    )


class Poll(Strict):
    """Asked every so often with `Since`, the moment of the last time."""

    every: Annotated[Duration, Field(ge=timedelta(seconds=30))] = timedelta(minutes=5)
    request: Request
    records: Path = ""
    pages: Pages | None = None
    map: ChangeMap


class Changes(Strict):
    hook: Hook | None = None
    poll: Poll | None = None

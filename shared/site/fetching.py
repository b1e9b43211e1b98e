"""How a PBX's recordings are fetched, as an administrator says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator
from yarl import URL

from shared.crm.language.text import compile_text
from shared.errors import ContractError
from shared.site.masked import KEPT, is_sealed
from shared.site.parts import Part, Secret, Text

#: What the address of a recording can be made of.
ADDRESS_VARIABLES = frozenset({"Recording", "File"})
_SAMPLE = dict.fromkeys(ADDRESS_VARIABLES, "a.wav")
_OTHER = dict.fromkeys(ADDRESS_VARIABLES, "b.mp3")
_BY_US = frozenset({"host", "content-length", "connection", "transfer-encoding", "range"})


def _folder(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:  # noqa: PLR2004  / alone
        raise ValueError("a folder in full is needed: /var/spool/asterisk/monitor")
    return str(path)


def _header(name: str) -> str:
    if name.lower() in _BY_US:
        raise ValueError(f"{name} is not for you to say")
    return name


Folder = Annotated[Text, AfterValidator(_folder)]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_header)
]


class FilesOfPbx(Part):
    """Files of a folder that the gateway can read: on this machine, or mounted."""

    kind: Literal["files"]
    folder: Folder = Field(
        description="As the gateway sees it. Names that the PBX tells are relative to it, or "
        "absolute and inside. Only a site file can say it, as it is a place on the operator's "
        "machine."
    )


class HttpOfPbx(Part):
    """A web server that has the files: the PBX's own, or where it uploads them."""

    kind: Literal["http"]
    url: Annotated[str, StringConstraints(max_length=1000)] = Field(
        description="Address of a recording, made of `{{.Recording}}`, the name that the PBX "
        "tells, and `{{.File}}`, its last part. A name that is an address itself is fetched as it "
        "is, where it leads to the same scheme, host and port."
    )
    username: Text | None = None
    password: Secret | None = None
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Sent with each request, such as `X-Api-Key`."
    )

    @field_validator("url")
    @classmethod
    def url_can_be_made(cls, text: str) -> str:
        try:
            template = compile_text(text, known=ADDRESS_VARIABLES)
            made, other = template.text(_SAMPLE), template.text(_OTHER)
        except ContractError as error:
            raise ValueError(error.message) from None
        try:
            url = URL(made)
        except ValueError:
            url = URL()
        if url.scheme not in {"http", "https"} or not url.host or url.user or url.raw_fragment:
            raise ValueError("an address is needed: https://pbx.example/monitor/{{.Recording}}")
        if URL(other).host != url.host:
            raise ValueError("a recording's name would change the host: say that in full")
        if not template.names:
            raise ValueError("it is the same for all recordings: say {{.Recording}} or {{.File}}")
        return text

    @model_validator(mode="after")
    def credentials_are_whole(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.username is not None and "authorization" in map(str.lower, self.headers):
            raise ValueError("either username and password, or the header Authorization")
        return self

    @property
    def origin(self) -> URL:
        """Scheme, host and port, which no name of a recording changes."""
        return URL(compile_text(self.url).text(_SAMPLE)).origin()


FetchRecordings = Annotated[FilesOfPbx | HttpOfPbx, Field(discriminator="kind")]


def masked(said: Any) -> Any:
    """What is dumped of it, with asterisks in place of secrets."""
    if isinstance(said, Mapping):
        return {name: masked(value) for name, value in said.items()}
    return KEPT if is_sealed(said) else said


def unmasked(said: Any, stored: FetchRecordings | None) -> Any:
    """
    *said*, what came over the API, with the seals of *stored* where it has asterisks.

    Raises: ContractError where there is none, or where it would go to another address.
    """
    known = stored.model_dump() if isinstance(stored, HttpOfPbx) else {}
    if not isinstance(said, Mapping):
        return said
    found = _filled(said, known, ())
    if found != said and said.get("url") != known.get("url"):
        raise ContractError(
            "fetch_recordings.url: is another; say its password and headers again, as they will "
            "go there"
        )
    return found


def sealed_in(said: Any) -> list[str]:
    """Every sealed text in what was dumped."""
    if isinstance(said, Mapping):
        return [seal for value in said.values() for seal in sealed_in(value)]
    return [said] if is_sealed(said) else []


def _filled(said: Mapping[str, Any], known: Mapping[str, Any], at: tuple[str, ...]) -> Any:
    found: dict[str, Any] = {}
    for name, value in said.items():
        there = known.get(name)
        if isinstance(value, Mapping):
            inner = there if isinstance(there, Mapping) else {}
            found[name] = _filled(value, inner, (*at, name))
        elif is_sealed(value):
            raise ContractError(f"fetch_recordings.{'.'.join((*at, name))}: a secret is its text")
        elif value == KEPT:
            if not is_sealed(there):
                raise ContractError(
                    f"fetch_recordings.{'.'.join((*at, name))}: none is stored; say it"
                )
            found[name] = there
        else:
            found[name] = value
    return found

"""How a template gets in: parameters, credentials, the flow that authenticates, limits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from shared.crm.form.patterns import check_pattern
from shared.crm.form.requests import (
    HeaderName,
    Method,
    Path,
    Placed,
    Step,
    Strict,
    Text,
    VariableName,
    texts_in,
)
from shared.moments import Duration

ParameterName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class ParameterKind(StrEnum):
    TEXT = "text"
    URL = "url"
    NUMBER = "number"
    SWITCH = "switch"


class Parameter(Strict):
    """A field of the set-up form. One with ``options`` is a choice."""

    name: ParameterName
    title: str
    help: str = ""
    kind: ParameterKind = ParameterKind.TEXT
    default: Text | None = Field(
        default=None, description="May use the parameters before it; without one, it is needed."
    )
    options: tuple[str, ...] = Field(default=(), description="The only values it takes.")
    pattern: str | None = Field(
        default=None, max_length=200, description="An RE2 pattern of the whole value."
    )
    https: bool = Field(
        default=True,
        description="kind url: `https` only; plain `http` is taken for addresses that the operator "
        "allows in CALLMESH_NET_ALLOW, and names in CALLMESH_NET_PLAIN.",
    )

    @field_validator("pattern")
    @classmethod
    def pattern_is_one(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern)
        return pattern


class Credential(Strict):
    """A secret of the set-up form."""

    name: ParameterName
    title: str
    help: str = ""
    required: bool = True


class PlaceKind(StrEnum):
    HEADER = "header"
    QUERY = "query"
    FORM = "form"
    JSON = "json"


class Place(Strict):
    """Something that every request of the API carries: a key, a token, a session."""

    kind: PlaceKind = Field(alias="in")
    name: Annotated[Text, StringConstraints(min_length=1)] = Field(
        description="One that comes out as nothing, or whose value does, is not sent."
    )
    value: Text


class Grant(StrEnum):
    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # noqa: S105  the grant's name in RFC 6749
    #: A refresh token that an administrator obtained elsewhere: credential ``refresh_token``.
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  as above


class Encoding(StrEnum):
    FORM = "form"
    JSON = "json"
    QUERY = "query"


class ClientPlace(StrEnum):
    BODY = "body"
    BASIC = "basic"


class OAuth2(Strict):
    """
    RFC 6749. The credentials are called client_id, client_secret, username, password and
    refresh_token; the token is the variable ``AccessToken``.
    """

    grant: Grant
    authorize_url: Text | None = None
    token_url: Text
    refresh_url: Text | None = Field(default=None, description="Where it is not `token_url`.")
    method: Method = Method.POST
    encoding: Encoding = Encoding.FORM
    client: ClientPlace = Field(
        default=ClientPlace.BODY, description="Where client_id and client_secret are sent."
    )
    pkce: bool = Field(default=True, description="RFC 7636, with S256; authorization_code only.")
    scope: Text = ""
    authorize_parameters: dict[str, Text] = Field(default_factory=dict)
    token_parameters: dict[str, Text] = Field(
        default_factory=dict, description="Beside those of the grant, also when it is refreshed."
    )
    access_token: Path = "access_token"  # noqa: S105  a path
    refresh_token: Path = "refresh_token"  # noqa: S105  a path
    expires_in: Path = Field(default="expires_in", description="Seconds, in the token's answer.")
    life: Duration = Field(
        default=timedelta(hours=1), description="Of a token whose answer does not say it."
    )
    refresh_every: Duration | None = Field(
        default=None, description="Refreshed so often whatever its life; 0s: only when refused."
    )
    rotates: bool | None = Field(
        default=None,
        description="Each refresh gives a new refresh token and ends the old one; where it is not "
        "said, it is seen at the first.",
    )
    take: dict[VariableName, Path] = Field(
        default_factory=dict,
        description="Further values of the token's answer, such as `api_base: api_domain`.",
    )

    @model_validator(mode="after")
    def can_ask_for_consent(self) -> Self:
        if self.grant is Grant.AUTHORIZATION_CODE and self.authorize_url is None:
            raise ValueError("grant authorization_code needs `authorize_url`")
        return self

    def texts(self, at: str) -> Iterator[Placed]:
        for name in ("authorize_url", "token_url", "refresh_url", "scope"):
            yield from texts_in(getattr(self, name), f"{at}.{name}")
        yield from texts_in(self.authorize_parameters, f"{at}.authorize_parameters")
        yield from texts_in(self.token_parameters, f"{at}.token_parameters")


#: What ``auth.compute`` and ``auth.apply`` may use beside the rest: the request as it goes out.
#: ``Path`` and ``Query`` as in its URL, ``Timestamp`` in Unix seconds, ``Nonce`` 32 hex digits.
SIGNED_VARIABLES = frozenset({"Method", "Url", "Path", "Query", "Body", "Timestamp", "Nonce"})


class Auth(Strict):
    """
    In this order: ``discover``, ``oauth2``, ``login`` make a session, which is kept, shared by all
    replicas and renewed ahead of its end and when it is refused; ``compute`` and ``apply`` put it
    on each request. Empty: nothing is needed.
    """

    discover: tuple[Step, ...] = Field(default=(), max_length=10)
    oauth2: OAuth2 | None = None
    login: tuple[Step, ...] = Field(default=(), max_length=10)
    life: Duration = Field(
        default=timedelta(minutes=30), description="Of a session that `login` made."
    )
    basic: Text | None = Field(
        default=None, description="`{{.username}}:{{.password}}`: sent as Authorization: Basic."
    )
    compute: dict[VariableName, Text] = Field(
        default_factory=dict, description="Made anew for each request, in this order: signatures."
    )
    apply: tuple[Place, ...] = Field(default=(), max_length=20)

    @property
    def needs_session(self) -> bool:
        return bool(self.discover or self.oauth2 or self.login)

    @property
    def session_variables(self) -> frozenset[str]:
        """What a session holds for the requests."""
        made = {name for step in (*self.discover, *self.login) for name in step.makes}
        if self.oauth2 is not None:
            made |= {"AccessToken", *self.oauth2.take}
        return frozenset(made)

    @cached_property
    def carried(self) -> tuple[Place, ...]:
        """``apply``; without one a token goes out as Bearer, a pair as Basic."""
        if self.apply:
            return self.apply
        if self.basic is not None:
            return ()
        if self.oauth2 is not None:
            value = "Bearer {{.AccessToken}}"
            return (
                Place.model_validate({"in": "header", "name": "Authorization", "value": value}),
            )
        return ()


class WaitUnit(StrEnum):
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    #: A moment, in Unix seconds.
    UNIX = "unix"
    UNIX_MS = "unix_ms"


class Wait(Strict):
    """Where an answer says how long to wait, beside Retry-After, which is always read."""

    header: HeaderName | None = None
    path: Path | None = None
    unit: WaitUnit = WaitUnit.SECONDS

    @model_validator(mode="after")
    def is_somewhere(self) -> Self:
        if (self.header is None) == (self.path is None):
            raise ValueError("a wait has a header or a path")
        return self


class Rate(Strict):
    requests: Annotated[int, Field(ge=1)]
    per: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=1))]


class Limits(Strict):
    """What the CRM takes from one connection, by all replicas together."""

    rates: tuple[Rate, ...] = Field(default=(), max_length=5)
    concurrent: int = Field(default=10, ge=1, le=100, description="Requests at the same time.")
    waits: tuple[Wait, ...] = ()
    patience: Duration = Field(
        default=timedelta(seconds=5), description="Pause where the CRM does not say how long."
    )
    timeout: Duration = Field(default=timedelta(seconds=10), description="Of one request.")

"""
Settings come from the environment alone (or from secret files named like their variables), are
read once at the start, and are frozen. The only module that sees the environment.

A wrong value, or a name that is none of ours, stops the start with one line that names it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from yarl import URL

from shared.errors import BadSetting
from shared.faults import faults_by_path
from shared.moments import Duration
from shared.net.requests import Detail
from shared.observe.logging import LogFormat

PREFIX = "CALLMESH_"
#: Where the orchestrator mounts secrets as files; ``callmesh_amqp_url`` is CALLMESH_AMQP_URL.
SECRETS_DIR = "CALLMESH_SECRETS_DIR"
_DEFAULT_SECRETS_DIR = "/run/secrets"
#: Variables that Kubernetes makes for a Service of our name; no settings, no faults.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT=(tcp|udp)://")

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Base: ``read`` instead of the constructor gives errors that an operator can act on."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    title: ClassVar[str]

    @classmethod
    def read(cls) -> Self:
        """Raises: BadSetting."""
        folder = os.environ.get(SECRETS_DIR, _DEFAULT_SECRETS_DIR)
        try:
            return cls(_secrets_dir=folder if Path(folder).is_dir() else None)
        except ValidationError as error:
            path, what = faults_by_path(error)[0]
            name = cls.variable(str(path[0])) if path else cls.title
            raise BadSetting(f"{name}: {what}") from None

    @classmethod
    def variable(cls, field: str) -> str:
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()

    @classmethod
    def variables(cls) -> list[str]:
        return [cls.variable(field) for field in cls.model_fields]


class BusKind(StrEnum):
    EMBEDDED = "embedded"
    RABBIT = "rabbit"


class StoreKind(StrEnum):
    SQLITE = "sqlite"
    MONGO = "mongo"


class MeshSettings(Settings):
    title: ClassVar[str] = "The mesh"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_")

    bus: BusKind = Field(
        default=BusKind.EMBEDDED,
        description="Where messages travel: `embedded` (an SQLite file, one process) or `rabbit`.",
    )
    store: StoreKind = Field(
        default=StoreKind.SQLITE,
        description="Where documents are kept: `sqlite` (the same file) or `mongo`.",
    )
    data_dir: Path = Field(
        default=Path("callmesh-data"),
        description="Folder of the embedded bus, the SQLite store and the key made for them.",
    )
    templates_dir: Path | None = Field(
        default=None,
        description="Folder of your own CRM templates (`*.yaml`), beside those that ship; read at "
        "the start, and when one is named that is not known.",
    )
    public_url: str | None = Field(
        default=None,
        description="The gateway's address as CRMs and browsers know it, such as "
        "`https://mesh.example`: links to recordings lead there, signatures of hooks are over it, "
        "and a consent comes back to it. The same for every service.",
    )
    secret_keys: SecretStr | None = Field(
        default=None,
        description="Keys that seal secrets in the store, comma-separated: the first seals, all "
        "open. `callmesh new-key` prints one. Needed with `mongo`; else one is made in the data "
        "folder.",
    )
    drain: Duration = Field(
        default=timedelta(seconds=10),
        description="How long running handlers and requests may finish after SIGTERM.",
    )
    settings_poll: Duration = Field(
        default=timedelta(seconds=1),
        description="How often a changed site (rules, connections) is looked for.",
    )
    request_log: Detail = Field(
        default=Detail.ALL,
        description="Which requests to CRMs and PBXs are noted: `off`, `failed` (with their "
        "bodies), `all` (a line for each, bodies of those that failed) or `bodies` (all of each). "
        "Secrets in them are masked; numbers and names of customers are not.",
    )
    request_log_keep: Annotated[Duration, Field(gt=timedelta(0))] = Field(
        default=timedelta(days=7), description="For how long these notes are kept."
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


class AmqpSettings(Settings):
    title: ClassVar[str] = "RabbitMQ"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_AMQP_")

    url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672/"),
        description="Broker and vhost; `amqps://` for TLS.",
    )
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")] = Field(
        default="mesh", description="First word of all exchanges and queues."
    )


class MongoSettings(Settings):
    title: ClassVar[str] = "MongoDB"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_MONGO_")

    url: SecretStr = Field(
        default=SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0"),
        description="A replica set (one node will do): a standalone loses acknowledged writes "
        "when it crashes.",
    )
    database: str = Field(default="callmesh", description="Name of the database.")


class HttpSettings(Settings):
    title: ClassVar[str] = "HTTP"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_HTTP_")

    host: str = Field(default="127.0.0.1", description="Address of the public listener.")
    port: Port = Field(default=8080, description="Port of the public listener; 0 takes a free one.")
    rate: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=50,
        description="Requests a second that an API key may make of one process, and four times as "
        "many at once; more are answered with 429. A user of the API may have a rate of his own. 0 "
        "is no limit.",
    )
    traffic_rate: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=1000,
        description="The same for what PBXs do all day: hooks (`hooks:write`) and questions for a "
        "route (`route:ask`).",
    )
    wrong_keys: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=20,
        description="After so many unknown API keys within a minute from one address, keys that are "
        "not in use here already are answered with 429 for a minute. 0 is no limit.",
    )
    proxies: str = Field(
        default="",
        description="Networks of the proxies before this listener, comma-separated: "
        "`10.1.0.0/16`. Their `X-Forwarded-For` says who asks; without it, all who come by a proxy "
        "are one address.",
    )
    origins: str = Field(
        default="",
        description="Origins whose pages may use the API from a browser, and open live streams, "
        "comma-separated: `https://crm.example`. Empty: only pages of the gateway's own address.",
    )


class OpsSettings(Settings):
    title: ClassVar[str] = "Health and metrics"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_OPS_")

    host: str = Field(
        default="127.0.0.1", description="Address of /live, /ready and /metrics; keep it inside."
    )
    port: Port = Field(default=8081, description="Their port; 0 takes a free one.")


class LogSettings(Settings):
    title: ClassVar[str] = "Logs"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_LOG_")

    format: LogFormat = Field(default=LogFormat.JSON, description="`json` or `console`.")
    level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR."
    )
    numbers_in_clear: bool = Field(
        default=False, description="Show whole phone numbers; else their last three digits."
    )


class NetSettings(Settings):
    title: ClassVar[str] = "Outgoing connections"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_NET_")

    allow: str = Field(
        default="",
        description="Networks beside the public internet that URLs of CRMs and PBXs, and hosts of PBXs "
        "that were set over the API, may lead to, comma-separated: `10.1.0.0/16`. Tenants' "
        "administrators write those.",
    )
    plain: str = Field(
        default="",
        description="Names of hosts that URLs of CRMs and PBXs may name with `http://`, "
        "comma-separated: `crm.lan`. Addresses that `CALLMESH_NET_ALLOW` lists may be; all else is `https://`, unless "
        "a template is made for systems of one's own.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="File (PEM) of further authorities that vouch for servers of `https://` and "
        "`wss://` URLs, beside the public ones: a company's own. Read at the start.",
    )


class OtelSettings(Settings):
    title: ClassVar[str] = "Traces"
    model_config = SettingsConfigDict(env_prefix="CALLMESH_OTEL_")

    endpoint: str = Field(
        default="",
        description="OTLP/HTTP collector, such as `http://otel:4318/v1/traces`; needs the extra "
        "`callmesh[otel]`. Empty: trace context travels, nothing is exported.",
    )


SHARED: tuple[type[Settings], ...] = (
    MeshSettings,
    AmqpSettings,
    MongoSettings,
    HttpSettings,
    OpsSettings,
    LogSettings,
    NetSettings,
    OtelSettings,
)

S = TypeVar("S", bound=Settings)


def refuse_unknown(known: Iterable[type[Settings]]) -> None:
    """A misspelt name would silently mean the default. Raises: BadSetting."""
    names = {SECRETS_DIR, *(name for cls in known for name in cls.variables())}
    for name, value in sorted(os.environ.items()):
        ours = name.startswith(PREFIX) and not name.startswith("CALLMESH_TEST_")
        if not ours or name in names or _SERVICE_LINK.search(f"{name}={value}"):
            continue
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; see docs/reference/settings.md"
        raise BadSetting(f"{name} is not a setting{hint}")

"""The PBX connections of a tenant: what an administrator says of each kind."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, StringConstraints
from yarl import URL

from shared.contracts.agents import AgentStatus, OwnWord
from shared.ids import Name
from shared.moments import Duration
from shared.site.fetching import FetchRecordings
from shared.site.parts import Part, Secret, Text, Zone

_HEX = re.compile(r"[0-9a-f]{64}")


def _fingerprint(value: object) -> object:
    """As browsers and openssl show it: with or without colons."""
    if not isinstance(value, str):
        return value
    # openssl: `sha256 Fingerprint=AB:CD:…`
    text = value.lower().rpartition("=")[2].replace(":", "").strip()
    if not _HEX.fullmatch(text):
        raise ValueError("the SHA-256 of a certificate is 64 hexadecimal digits")
    return text


def _address(text: str) -> str:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("an address is needed: https://pbx.example:8088")
    if url.user or url.password or url.raw_query_string or url.raw_fragment:
        raise ValueError("the address has no user, no query and no fragment")
    return text.rstrip("/")


def _written_out(value: object) -> object:
    """A number is no address, though Python makes one of it."""
    if isinstance(value, bool | int | float):
        raise ValueError("a network is written out: 192.0.2.0/24")  # noqa: TRY004  pydantic's
    return value


Network = Annotated[IPvAnyNetwork, BeforeValidator(_written_out)]
Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, StringConstraints(max_length=500), AfterValidator(_address)]
Fingerprint = Annotated[str, BeforeValidator(_fingerprint)]
Branch = Annotated[int, Field(ge=0, le=99)]
Context = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Trunks = Annotated[tuple[Text, ...], Field(min_length=1)]

_FINGERPRINT = Field(
    default=None,
    description="SHA-256 of the PBX's own certificate, where no authority signed it; `doctor` "
    "shows it.",
)
_GUARDED = Field(
    default=False,
    description="`host` leads to public addresses and those of `CALLMESH_NET_ALLOW` alone. The API "
    "says it by itself, of a `host` and `port` that were set there; what is sent does not count.",
)


class PbxPart(Part):
    #: Whether click-to-call can go to this kind.
    takes_orders: ClassVar[bool] = True
    #: How long after its end a call's recording may be told, where nobody tells it before.
    tells_late: ClassVar[timedelta] = timedelta(0)

    name: Name
    ring_agent: Duration = Field(
        default=timedelta(seconds=15), description="How long click-to-call rings the agent."
    )
    senders: tuple[Network, ...] = Field(
        default=(),
        description="Networks from which this PBX's hooks, and questions in its own form, may come, "
        "beside their API key; empty: from anywhere.",
    )
    statuses: dict[AgentStatus, OwnWord] = Field(
        default_factory=dict,
        description="Our status → this PBX's own word, where it has another; what it says comes "
        "back as ours.",
    )
    fetch_recordings: FetchRecordings | None = Field(
        default=None,
        description="How recordings are fetched: `files` or `http`. Without it by the PBX's API, "
        "where that gives them (Yeastar, Wazo).",
    )


class AsteriskPbx(PbxPart):
    """An Asterisk, by its Manager Interface; routes are asked by FastAGI or HTTP."""

    kind: Literal["asterisk"]
    host: Text
    port: Port = 5038
    guarded: bool = _GUARDED
    tls: bool = False
    fingerprint: Fingerprint | None = _FINGERPRINT
    username: Text
    secret: Secret
    trunks: Trunks = Field(
        description="Endpoints that lead outside: `PJSIP/trunk-0000001a` is endpoint `trunk`."
    )
    technology: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,16}$")] = Field(
        default="PJSIP", description="Channel technology of the phones, for click-to-call."
    )
    outbound_context: Context = Field(
        default="outbound", description="Dialplan context that dials outside numbers."
    )
    askers: tuple[Network, ...] = Field(
        default=(), description="Networks from which this PBX asks for routes without an API key."
    )


class GenericPbx(PbxPart):
    """Any PBX that can send the documented JSON hook, and ask for routes by HTTP."""

    takes_orders: ClassVar[bool] = False

    kind: Literal["generic"]
    signing_secret: Secret | None = Field(
        default=None, description="Its hooks are signed with this; without it the key is enough."
    )


class FreeSwitchPbx(PbxPart):
    """A FreeSWITCH, by its event socket; records of calls and route questions come by HTTP."""

    kind: Literal["freeswitch"]
    host: Text
    port: Port = 8021
    guarded: bool = _GUARDED
    username: Text | None = Field(
        default=None, description="`user@domain` of the directory; else the socket's own password."
    )
    password: Secret
    trunks: Trunks = Field(description="Gateways and profiles that lead outside.")
    outbound_context: Context = Field(
        default="default", description="Dialplan context that dials outside numbers."
    )
    domain: Text | None = Field(
        default=None, description="Domain of the phones, where it is not the default one."
    )
    queue_domain: Text = Field(
        default="default", description="What stands behind the @ in names of queue agents."
    )


class YeastarEvents(StrEnum):
    WEBSOCKET = "websocket"
    WEBHOOK = "webhook"


class YeastarPbx(PbxPart):
    """A Yeastar P-Series, by its Open API; events over its WebSocket or by its webhook."""

    kind: Literal["yeastar"]
    url: Address
    fingerprint: Fingerprint | None = _FINGERPRINT
    client_id: Text
    client_secret: Secret
    events: YeastarEvents = YeastarEvents.WEBSOCKET
    webhook_secret: Secret | None = Field(
        default=None, description="By which the PBX signs its webhooks, where it is set there."
    )
    zone: Zone | None = Field(
        default=None, description="Time zone of the PBX's clock; without it the tenant's."
    )
    queues: tuple[Text, ...] = Field(
        default=(), description="Numbers of its queues, where they are not of 6400 to 6499."
    )
    auto_answer: bool = Field(
        default=False,
        description="Click-to-call: phones that can take the agent's leg by themselves do.",
    )


class ThreeCxPbx(PbxPart):
    """A 3CX v20, by its Call Control API."""

    kind: Literal["threecx"]
    url: Address
    fingerprint: Fingerprint | None = _FINGERPRINT
    client_id: Text
    client_secret: Secret


class WazoPbx(PbxPart):
    """A Wazo, by its REST API and WebSocket."""

    kind: Literal["wazo"]
    url: Address
    fingerprint: Fingerprint | None = _FINGERPRINT
    username: Text
    password: Secret
    tenant_uuid: Text | None = Field(default=None, description="Needed where Wazo has several.")
    context: Context | None = Field(
        default=None, description="Where outside numbers are dialled; else that of the user's line."
    )


class UisPbx(PbxPart):
    """UIS, CoMagic or CallGear: notifications by HTTP, orders and reports by JSON-RPC."""

    #: Its report is asked for three times in that.
    tells_late: ClassVar[timedelta] = timedelta(seconds=45)

    kind: Literal["uis"]
    call_api: Address = "https://callapi.uiscom.ru/v4.0"
    data_api: Address = "https://dataapi.uiscom.ru/v2.0"
    access_token: Secret
    data_token: Secret | None = Field(
        default=None, description="Where the Data API has a key of its own."
    )
    virtual_number: Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{5,20}$")] = Field(
        description="The account's number that click-to-call dials with."
    )
    zone: Zone = Field(default="Europe/Moscow", description="Time zone of the account.")
    calls_available: bool = Field(
        default=False, description="Set the older flag `calls_available` in place of the status."
    )
    branches: dict[Text, Branch] = Field(
        default_factory=dict,
        description="Destination (`queue:support`) → the returned code of the scenario's branch.",
    )
    numbers: dict[Text, Text] = Field(
        default_factory=dict, description="Destination (`extension:101`) → a number to call."
    )
    default_branch: Branch | None = Field(
        default=None, description="The branch of a call for which no rule is set."
    )
    recordings: Address | None = Field(
        default=None, description="Where recordings are heard; without it by the Data API's host."
    )


class PbxwarePbx(PbxPart):
    """A PBXware that asks us as its `Custom CRM`: the value of a field of the caller's record."""

    takes_orders: ClassVar[bool] = False

    kind: Literal["pbxware"]
    crm: Name
    modules: tuple[Text, ...] = Field(
        default=(), description="Contact types to search; empty: those of the connection."
    )
    within: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=10))] = Field(
        default=timedelta(milliseconds=1500), description="Time budget of an answer."
    )
    as_json: bool = Field(default=False, description='Answer `{"value": …}` in place of the text.')


Pbx = Annotated[
    AsteriskPbx
    | GenericPbx
    | FreeSwitchPbx
    | YeastarPbx
    | ThreeCxPbx
    | WazoPbx
    | UisPbx
    | PbxwarePbx,
    Field(discriminator="kind"),
]

"""
Addresses by which a CRM's own telephony module reaches us: a click on a number, a user's status.

An address is ``{public_url}/v1/crm-calls/{token}/dial`` or ``…/status``. The token names tenant and
connection and is signed with HMAC-SHA256 by a key that is derived from the mesh's own; the client
id, which the CRM sends along, is derived by another. Neither is kept anywhere, and each is the same
as long as its key is the first: a CRM that was told once goes on to be heard.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import NotFound
from shared.ids import NAME_PATTERN, TENANT_PATTERN
from shared.secrets import SecretBox

PATH = "/v1/crm-calls/{token}"
DIAL, STATUS = f"{PATH}/dial", f"{PATH}/status"
#: What the keys are derived for.
_TOKENS, _CLIENTS = "callmesh click links 1", "callmesh click clients 1"
#: 128 bits; RFC 2104, 5 asks for half of the hash.
_SIGNATURE_BYTES = 16
_TOKEN = re.compile(
    rf"(?P<said>(?P<tenant>{TENANT_PATTERN.strip('^$')})\.(?P<connection>{NAME_PATTERN.strip('^$')}))"
    r"\.(?P<signature>[\w-]{22})",
    re.ASCII,
)
_LONGEST = 128


@dataclass(frozen=True, slots=True)
class Clicker:
    """Whose CRM it is that calls."""

    tenant: str
    connection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickAddresses:
    """What the CRM is given; all of it is secret."""

    client_id: str = field(repr=False)
    dial_url: str = field(repr=False)
    status_url: str = field(repr=False)
    token: str = field(repr=False)

    def taken_out_of(self, text: str) -> str:
        """*text* without any of them: a CRM's words may repeat what it was sent."""
        for secret in (self.dial_url, self.status_url, self.token, self.client_id):
            text = text.replace(secret, "***")
        return text


def no_such_address() -> NotFound:
    """The same, whatever is wrong with an address or who it is of."""
    return NotFound("There is nothing at this address, or not any more.")


class ClickLinks:
    """Of the secret box's keys the first signs, all are honoured."""

    def __init__(self, secrets: SecretBox, *, public_url: str | None) -> None:
        """Without *public_url* there are no addresses."""
        self._tokens = secrets.signing_keys(_TOKENS)
        self._clients = secrets.signing_keys(_CLIENTS)
        self._public_url = public_url

    def addresses(self, tenant: str, connection: str) -> ClickAddresses | None:
        """The same for the same connection, however often; None without a public address."""
        if self._public_url is None:
            return None
        said = f"{tenant}.{connection}"
        token = f"{said}.{_signature(self._tokens[0], said)}"
        return ClickAddresses(
            client_id=_signature(self._clients[0], said),
            dial_url=self._public_url + DIAL.format(token=token),
            status_url=self._public_url + STATUS.format(token=token),
            token=token,
        )

    def read(self, token: str) -> Clicker:
        """Raises: NotFound, with the same words whatever is wrong with it."""
        found = _TOKEN.fullmatch(token) if len(token) <= _LONGEST else None
        if found is None or not _fits(self._tokens, found["said"], found["signature"]):
            raise no_such_address()
        return Clicker(found["tenant"], found["connection"])

    def is_client(self, clicker: Clicker, client_id: str) -> bool:
        """Whether the CRM of *clicker* was given this client id."""
        return _fits(self._clients, f"{clicker.tenant}.{clicker.connection}", client_id)


def _fits(keys: Sequence[bytes], said: str, given: str) -> bool:
    # Every key is tried, and bytes are compared: how long it takes tells nothing, and of texts only
    # those in ASCII can be compared.
    offered = given.encode(errors="replace")
    fits = [hmac.compare_digest(offered, _signature(key, said).encode()) for key in keys]
    return any(fits)


def _signature(key: bytes, said: str) -> str:
    made = hmac.digest(key, said.encode(), "sha256")[:_SIGNATURE_BYTES]
    return base64.urlsafe_b64encode(made).decode().rstrip("=")

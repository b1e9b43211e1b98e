"""The way to a Manager Interface: TCP, TLS by an authority or by fingerprint, and the banner."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import SecretStr

from shared.errors import ContractError, Rejected, Unavailable
from shared.net.guard import GuardedResolver
from shared.net.streams import open_stream

_CONNECT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class AmiAddress:
    """
    *fingerprint*: SHA-256 of the one certificate that is taken, whoever signed it. *names*: who
    looks *host* up and knows where we may go; None: we may go anywhere.
    """

    host: str
    port: int
    username: str
    secret: SecretStr
    tls: bool = False
    fingerprint: bytes | None = None
    names: GuardedResolver | None = field(default=None, repr=False)


class NotTrusted(Unavailable):
    """The PBX's certificate is not the one it should be, or no authority that we know signed it."""


async def connect(address: AmiAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises: Unavailable, NotTrusted; then the other side has heard nothing of us."""
    context = _context(pinned=address.fingerprint is not None) if address.tls else None
    reader, writer = await _open(address, context)
    if address.tls and address.fingerprint is not None:
        found = _digest(writer)
        if not hmac.compare_digest(found, address.fingerprint):
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
            other = f"its certificate is another, with SHA-256 {found.hex()}"
            raise NotTrusted(_no_ami(address, other))
    return reader, writer


async def fingerprint_of(address: AmiAddress) -> str:
    """
    SHA-256 of the certificate that is shown at *address*, which nobody vouches for.

    Raises: Unavailable.
    """
    _, writer = await _open(address, _context(pinned=True))
    try:
        return _digest(writer).hex()
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def read_banner(reader: asyncio.StreamReader, address: AmiAddress) -> str:
    """Raises: Unavailable (no word), ContractError (another protocol)."""
    try:
        async with asyncio.timeout(_CONNECT.total_seconds()):
            banner = await reader.readline()
    except ValueError:
        banner = b""  # longer than any banner
    except (OSError, TimeoutError) as error:
        raise Unavailable(_no_ami(address, str(error))) from None
    if not banner.startswith(b"Asterisk Call Manager/"):
        raise ContractError(f"{address.host}:{address.port} does not speak AMI")
    return banner.decode(errors="replace").strip()


async def _open(
    address: AmiAddress, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(_CONNECT.total_seconds()):
            return await open_stream(address.host, address.port, names=address.names, tls=context)
    except ssl.SSLCertVerificationError as error:
        raise NotTrusted(_no_ami(address, f"its certificate: {error.verify_message}")) from None
    # A name that no resolver can write is a UnicodeError, which is a ValueError.
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable(_no_ami(address, str(error))) from None
    # It may be let another day: the operator's list and what a name means both change.
    except Rejected as error:
        raise Unavailable(_no_ami(address, error.message)) from None


def _context(*, pinned: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if pinned:
        # The fingerprint says more than any authority: it is compared before anything is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _digest(writer: asyncio.StreamWriter) -> bytes:
    found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return hashlib.sha256(found or b"").digest()


def _no_ami(address: AmiAddress, why: str) -> str:
    return f"no AMI at {address.host}:{address.port}: {why or 'no answer'}"

"""Connections by TCP that speak no HTTP: a Manager Interface, an event socket."""

from __future__ import annotations

import asyncio
import socket
import ssl

from shared.net.guard import GuardedResolver


async def open_stream(
    host: str, port: int, *, names: GuardedResolver | None, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    *names* looks *host* up, and the connection goes to an address that its guard lets; None: it
    goes anywhere.

    Raises: OSError, ValueError (a name that no resolver can write), Rejected.
    """
    if names is None:
        return await asyncio.open_connection(host, port, ssl=tls)
    # Not the name again: it could mean something else by then.
    found = await names.resolve(host, port, socket.AF_UNSPEC)
    failed: OSError = OSError(f"{host} has no address")
    for one in found:
        try:
            return await asyncio.open_connection(
                one["host"], port, ssl=tls, server_hostname=host if tls else None
            )
        except OSError as error:
            failed = error
    raise failed

"""Who may vouch for the servers that we ask."""

from __future__ import annotations

import ssl
from pathlib import Path

from shared.errors import BadSetting


def trusting(file: Path | None) -> ssl.SSLContext | None:
    """
    The public authorities and those of *file* (PEM); None without one: the public ones alone.

    Raises: BadSetting.
    """
    if file is None:
        return None
    context = ssl.create_default_context()
    # What aiohttp says by itself, where it makes the context.
    context.set_alpn_protocols(("http/1.1",))
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise BadSetting(
            f"CALLMESH_NET_CA_FILE: {file} holds no certificates in PEM (-----BEGIN CERTIFICATE-----)"
        ) from None
    except OSError as error:
        raise BadSetting(f"CALLMESH_NET_CA_FILE: cannot read {file}: {error.strerror}") from None
    return context

"""Where the sites' Asterisks are reached, as their clients need it."""

from __future__ import annotations

import structlog

from shared.errors import BadSetting
from shared.pbx.asterisk.ami_client import AmiAddress
from shared.secrets import SecretBox
from shared.site.book import SiteBook

log = structlog.get_logger(__name__)


def ami_addresses(site: SiteBook, secrets: SecretBox) -> dict[tuple[str, str], AmiAddress]:
    """
    By tenant and PBX: what a connection depends on and no more, so that it outlives every other
    change. The secret is opened, as each `apply` seals it anew. A PBX whose secret no key opens
    is logged and left out.
    """
    found = {}
    for tenant, pbx in site.asterisks():
        try:
            secret = secrets.open(pbx.secret)
        except BadSetting as error:
            log.error("pbx_not_usable", tenant=tenant, pbx=pbx.name, error=error.message)  # noqa: TRY400  no traceback
            continue
        found[tenant, pbx.name] = AmiAddress(
            host=pbx.host, port=pbx.port, username=pbx.username, secret=secret, tls=pbx.tls
        )
    return found

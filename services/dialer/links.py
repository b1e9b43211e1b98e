"""The Asterisks that orders go to: one link each, as the site says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.pbx.asterisk.ami_client import AmiAddress
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.link import AmiLink
from shared.pbx.asterisk.tracker import CLICK_VARIABLE
from shared.secrets import SecretBox
from shared.site.addresses import ami_addresses
from shared.site.book import SiteBook
from shared.site.following import run_for_each
from shared.site.models import AsteriskPbx

log = structlog.get_logger(__name__)

_WANTED = frozenset({"OriginateResponse"})

#: Tenant, PBX and the PBX's word on an order that it could not carry out.
OnRefusal = Callable[[str, str, AmiMessage], Awaitable[None]]


class DialLinks:
    def __init__(
        self, site: SiteBook, *, secrets: SecretBox, clock: Clock, on_refusal: OnRefusal
    ) -> None:
        self._site = site
        self._secrets = secrets
        self._clock = clock
        self._on_refusal = on_refusal
        self._links: dict[tuple[str, str], AmiLink] = {}

    async def run(self) -> None:
        await run_for_each(self._site, self._wanted, self._keep)

    async def originate(
        self,
        tenant: str,
        pbx: AsteriskPbx,
        *,
        reference: str,
        extension: str,
        number: str,
        within: timedelta,
    ) -> None:
        """
        Ring *extension*, then *number*. *reference* becomes the call's identity at the PBX,
        which refuses a second order with it while the call lives.

        Raises: Rejected; Unavailable with ``sent=False`` in its details when nothing was sent,
        with ``sent=True`` when nobody knows.
        """
        link = self._links.get((tenant, pbx.name))
        if link is None or not link.connected:
            fault = link.fault if link else "not set up yet"
            raise Unavailable(f"no connection to PBX {pbx.name}: {fault}", sent=False)
        shown = f'"Call {number}" <{number}>'
        fields: dict[str, str | list[str]] = {
            "Channel": f"{pbx.technology}/{extension}",
            "Context": pbx.outbound_context,
            "Exten": number,
            "Priority": "1",
            "CallerID": shown,
            "Timeout": str(round(pbx.ring_agent / timedelta(milliseconds=1))),
            "Async": "true",
            "ChannelId": reference,
            # Two underscores: the customer's leg inherits it.
            "Variable": f"__{CLICK_VARIABLE}={reference}",
        }
        try:
            await link.action("Originate", fields, within=within, action_id=reference)
        except Rejected:
            raise
        except Unavailable as error:
            raise Unavailable(error.message, sent=True) from error

    def _wanted(self) -> dict[tuple[str, str], AmiAddress]:
        return ami_addresses(self._site, self._secrets)

    async def _keep(self, key: tuple[str, str], address: AmiAddress) -> None:
        tenant, name = key
        structlog.contextvars.bind_contextvars(service="dialer", tenant=tenant, pbx=name)

        async def on_event(message: AmiMessage) -> None:
            if message.get("Response") == "Failure":
                await self._on_refusal(tenant, name, message)

        link = self._links[key] = AmiLink(
            address, wanted=_WANTED, clock=self._clock, on_event=on_event
        )
        try:
            await link.run()
        finally:
            del self._links[key]

"""The sides of an agent that can be told what he does, and how each of them shows it."""

from __future__ import annotations

import structlog

from services.dialer.links import Switchboards
from services.dialer.sides import Render, Rendering, side_key
from services.dialer.whose import pbx_of_agent
from shared.contracts.agents import AgentStatus, Side
from shared.crm.connections import CrmConnections
from shared.errors import MeshError
from shared.site.accounts import account_of
from shared.site.models import CrmConnection, Site
from shared.site.pbx import Pbx

log = structlog.get_logger(__name__)


class Showing:
    def __init__(self, boards: Switchboards, connections: CrmConnections) -> None:
        self._boards = boards
        self._connections = connections

    def renders(self, site: Site | None, extension: str) -> dict[str, Render]:
        """
        By side: the agent's PBX, and the CRMs that want to be told. Of who is no agent of the site,
        nobody is told. Raises: Unavailable while it is not known how the PBX shows things.
        """
        agent = site.agent_at(extension) if site else None
        if site is None or agent is None:
            return {}
        found: dict[str, Render] = {}
        pbx = pbx_of_agent(site, agent)
        if pbx is not None and self._boards.takes_orders(site, pbx):
            found[side_key(Side.PBX, pbx.name)] = self._pbx(site.tenant, pbx)
        for crm in site.crm:
            render = self._crm(site, crm) if crm.status.tell else None
            if render is not None:
                found[side_key(Side.CRM, crm.name)] = render
        return found

    def _pbx(self, tenant: str, pbx: Pbx) -> Render:
        board = self._boards.board(tenant, pbx.name)

        def render(status: AgentStatus, own: str | None) -> Rendering:
            word = own or pbx.statuses.get(status)
            return Rendering(word=word, heard=(board.heard_as(status, word),))

        return render

    def _crm(self, site: Site, crm: CrmConnection) -> Render | None:
        try:
            connector = self._connections.connector(account_of(site, crm))
        except MeshError as error:
            log.warning("crm_not_told_statuses", connection=crm.name, error=error.message)
            return None
        if not connector.tells_status:
            return None
        words = {status: connector.status_word(status, crm.status.words) for status in AgentStatus}

        def render(status: AgentStatus, own: str | None) -> Rendering | None:
            word = words[status]
            if word is None:
                return None
            # A word for several statuses comes back as any of them.
            return Rendering(word=word, heard=tuple(one for one in words if words[one] == word))

        return render

"""``agents``: what they are doing, and saying so."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.dialer.agents import AGENTS, AgentBook
from shared.contracts.agents import AgentRecord, AgentStatus, AgentStatusChanged, Side
from shared.crm.masking import printable
from shared.errors import ContractError, NotFound
from shared.faults import faults_in
from shared.ids import new_id
from shared.runtime.service import Platform
from shared.site.models import Site

Tenant = Annotated[str, typer.Option(help="Whose agents.")]


def register(app: typer.Typer) -> None:
    agents = typer.Typer(help="What agents are doing.", no_args_is_help=True)
    agents.command("list")(list_agents)
    agents.command("set")(set_status)
    app.add_typer(agents, name="agents")


def list_agents(
    tenant: Tenant,
    status: Annotated[AgentStatus | None, typer.Option(help="Only who does this.")] = None,
) -> None:
    """List a tenant's agents, what they are doing, and who said so."""

    async def work() -> tuple[Site, dict[str, AgentRecord]]:
        async with looking() as platform:
            site = await _site(platform, tenant)
            book = AgentBook(platform.store.collection(AGENTS), platform.clock)
            records = {one.extension: one async for one in book.records(tenant, None)}
            return site, records

    site, known = run_async(work())
    table = Table("extension", "name", "status", "since", "said by", "not told")
    for agent in sorted(site.agents, key=lambda agent: agent.extension):
        record = known.get(agent.extension) or AgentRecord(extension=agent.extension)
        if status in {None, record.status}:
            row = (
                agent.extension,
                agent.name or "",
                _status(record),
                f"{record.since:%Y-%m-%d %H:%M:%S}" if record.since else "",
                " ".join(filter(None, (record.source, record.source_name))),
                "; ".join(record.faults),
            )
            # Own words and faults are whatever a PBX or CRM sends.
            table.add_row(*(escape(printable(text)) for text in row))
    out.print(table)


def set_status(
    extension: Annotated[str, typer.Argument(help="The agent's.")],
    status: AgentStatus,
    tenant: Tenant,
    own: Annotated[
        str | None, typer.Option(help="The PBX's own word, where it has several for the status.")
    ] = None,
) -> None:
    """Say what an agent is doing: the PBX is told, and the CRMs that want to know."""

    async def work() -> None:
        async with looking() as platform:
            site = await _site(platform, tenant)
            if site.agent_at(extension) is None:
                raise NotFound(f"extension {extension} is not one of {tenant}'s agents")
            try:
                said = AgentStatusChanged(
                    extension=extension,
                    status=status,
                    own=own,
                    source=Side.API,
                    source_name="command-line",
                )
            except ValidationError as error:
                raise ContractError(faults_in(error)) from None
            await platform.bus.start()
            try:
                publisher = platform.publisher("gateway")
                await publisher.publish(said, tenant=tenant, key=str(new_id()))
            finally:
                await platform.bus.stop(drain=timedelta(seconds=2))

    run_async(work())
    out.print(f"{extension} is {status}: on its way", markup=False)


def _status(record: AgentRecord) -> str:
    if record.status is None:
        return "nobody has said"
    own = record.own if record.own != record.status else None
    return f"{record.status} ({own})" if own else str(record.status)


async def _site(platform: Platform, tenant: str) -> Site:
    """Raises: NotFound."""
    await platform.site.refresh()
    site = platform.site.site(tenant)
    if site is None:
        raise NotFound(f"there is no tenant {tenant}")
    return site

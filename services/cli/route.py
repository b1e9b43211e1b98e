"""``route``: where a call would go, and where calls went, each with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from services.cli import route_batch
from services.cli.console import looking, out, run_async
from services.cli.explaining import DraftFile, explaining, scene_of
from services.routing.store import DECISIONS, DecisionDocument, DecisionLog
from services.routing.supposed import ExplainQuestion
from shared.contracts.routing import RouteDecision, RouteReason
from shared.crm.masking import printable
from shared.errors import BadSetting, ContractError, NotFound
from shared.faults import faults_in
from shared.pbx.asking import way_of
from shared.site.models import Site

Tenant = Annotated[str, typer.Option(help="Whose rules.")]


def register(app: typer.Typer) -> None:
    route = typer.Typer(help="Where calls go, and why.", no_args_is_help=True)
    route.command("explain")(explain)
    route.command("batch")(route_batch.batch)
    route.command("decisions")(decisions)
    app.add_typer(route, name="route")


def explain(  # noqa: PLR0917  options of a command
    tenant: Tenant,
    did: Annotated[str, typer.Option(help="The number that is called.")] = "",
    caller: Annotated[
        str, typer.Option("--from", help="The calling number; left out: withheld.")
    ] = "",
    ivr: Annotated[str | None, typer.Option(help="The menu that asks.")] = None,
    dtmf: Annotated[
        str, typer.Option(help="Digits of the caller; -: asked for some, and entered none.")
    ] = "",
    at: Annotated[
        str | None,
        typer.Option(help="As if it were then: 2026-12-24T18:30, in the tenant's zone."),
    ] = None,
    contact: Annotated[
        Path | None,
        typer.Option(help="A record in place of the CRM's: JSON with display_name, fields, …"),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of such a record; may be given again."),
    ] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="As if no CRM knew the caller.")] = False,
    agent: Annotated[
        list[str] | None,
        typer.Option(help="EXTENSION=STATUS, as if; may be given again: 101=busy."),
    ] = None,
    rule: Annotated[
        Path | None,
        typer.Option(help="A draft: one rule as in a site file, tried in place of the stored one."),
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="The draft's rows, as for `rule put`.")] = None,
    rule_name: Annotated[
        str | None, typer.Option(help="Ask this rule, whichever number is called.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The decision as JSON.")] = False,
) -> None:
    """Say where a call would go, and why, without a call; nothing is kept.

    The CRM is asked as for a call, after everybody else, unless --contact, --field or --nobody
    says what it would answer.
    """
    draft = DraftFile.of(rule, rows)
    asked: dict[str, Any] = {"did": did, "from": caller, "dtmf": dtmf}
    asked |= {"ivr": ivr, "agents": _pairs(agent, "--agent 101=busy")}
    asked |= _given(contact, _pairs(field, "--field Tier=GOLD"), nobody=nobody)

    async def work() -> RouteDecision:
        async with explaining() as (platform, explainer):
            scene = await scene_of(platform, explainer, tenant, draft, rule_name)
            if at is not None:
                asked["at"] = moment(at, scene.site)
            try:
                question = ExplainQuestion.model_validate(asked)
            except ValidationError as error:
                raise ContractError(faults_in(error)) from None
            return (await explainer.decided(scene, question)).decision

    decision = run_async(work())
    if as_json:
        typer.echo(decision.model_dump_json(indent=2))
    else:
        show(decision)


def decisions(  # noqa: PLR0917  options of a command
    tenant: Tenant,
    call: Annotated[str | None, typer.Option(help="Of this call: its id.")] = None,
    caller: Annotated[str | None, typer.Option("--from", help="Of this caller.")] = None,
    did: Annotated[str | None, typer.Option(help="Of calls to this number.")] = None,
    rule: Annotated[str | None, typer.Option(help="Those that this rule decided.")] = None,
    reason: Annotated[RouteReason | None, typer.Option(help="Those for this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
    id_: Annotated[
        str | None, typer.Option("--id", help="One of them, with what was looked at.")
    ] = None,
) -> None:
    """List what was decided for calls, newest first; with --id why."""

    async def work() -> list[DecisionDocument]:
        async with looking() as platform:
            await platform.site.refresh()
            site = platform.site.site(tenant)
            if site is None:
                raise NotFound(f"there is no tenant {tenant}")
            kept = platform.store.collection(DECISIONS)
            log = DecisionLog(kept, platform.clock, keep=timedelta(0))
            if id_ is not None:
                return [await log.get(tenant, id_)]
            found: list[DecisionDocument] = []
            cursor = None
            while True:
                page = await log.page(
                    tenant,
                    call_id=call,
                    did=did,
                    caller=caller,
                    region=site.region,
                    rule=rule,
                    reason=reason,
                    limit=min(limit - len(found), 500),
                    cursor=cursor,
                )
                found += page.documents
                cursor = page.next_cursor
                if cursor is None or len(found) >= limit:
                    return found

    found = run_async(work())
    if id_ is not None:
        _show_one(found[0])
    elif not found:
        out.print("no decisions")
    else:
        out.print(_listed(found))


def _show_one(document: DecisionDocument) -> None:
    menu = f" at menu {document.ivr}" if document.ivr else ""
    line = f"{document.decided_at:%Y-%m-%d %H:%M:%S} UTC, {document.caller or 'withheld'} to "
    out.print(printable(f"{line}{document.did}{menu}"), markup=False)
    show(document.decision)


def _listed(found: list[DecisionDocument]) -> Table:
    table = Table()
    # It is for `--id`.
    table.add_column("id", no_wrap=True, min_width=36)
    for name in ("decided", "from", "did", "destination", "reason", "rule", "row", "ms"):
        table.add_column(name)
    for document in found:
        decision = document.decision
        table.add_row(
            document.key,
            f"{document.decided_at:%Y-%m-%d %H:%M:%S}",
            escape(printable(document.caller)),
            escape(printable(document.did)),
            way_of(decision) or "-",
            decision.reason,
            decision.rule or "-",
            str(decision.row or "-"),
            f"{decision.took_ms:.0f}",
        )
    return table


def show(decision: RouteDecision) -> None:
    """Destination, reason, what goes along, and the trace."""
    out.print(way_of(decision) or "no rule: the dialplan goes on", style="bold", markup=False)
    version = f" (version {decision.version})" if decision.version is not None else ""
    row = f", row {decision.row}" if decision.row is not None else ""
    rule = f": rule {decision.rule}{version}{row}" if decision.rule else ""
    out.print(f"{decision.reason}{rule}, {decision.took_ms:.0f} ms", markup=False)
    for name, value in _said(decision).items():
        out.print(f"{name}: {printable(value)}", markup=False)
    table = Table("ms", "step", "detail")
    for step in decision.trace:
        table.add_row(f"{step.after_ms:.1f}", step.step, escape(printable(step.detail)))
    out.print(table)


def _said(decision: RouteDecision) -> Mapping[str, str]:
    said: dict[str, str] = {}
    if decision.field is not None and decision.value is not None:
        said[decision.field] = json.dumps(decision.value, ensure_ascii=False)
    if (contact := decision.contact) is not None:
        said["contact"] = f"{contact.module} {contact.contact_id}, {contact.display_name}"
    if decision.priority is not None:
        said["priority"] = str(decision.priority)
    if decision.voicemail is not None:
        said["voicemail"] = "yes" if decision.voicemail else "no"
    return {**said, **decision.attributes}


def moment(text: str, site: Site) -> datetime:
    """Raises: ContractError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ContractError(f"--at {text}: say 2026-12-24T18:30") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(site.zone))


def _given(contact: Path | None, fields: dict[str, str], *, nobody: bool) -> dict[str, Any]:
    """What is supposed of the caller's record; empty: the CRM is asked."""
    if nobody:
        if contact is not None or fields:
            raise ContractError("--nobody has no record: leave --contact and --field out")
        return {"contact": None}
    if contact is None:
        return {"contact": {"fields": fields}} if fields else {}
    try:
        given = json.loads(contact.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadSetting(f"{contact}: cannot be read: {error}") from None
    if not isinstance(given, dict):
        raise BadSetting(f'{contact}: one record: {{"module": "Contacts", "fields": {{…}}}}')
    known = given.get("fields", {})
    if fields and isinstance(known, dict):
        given["fields"] = {**known, **fields}
    return {"contact": given}


def _pairs(texts: list[str] | None, example: str) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ContractError(f"{text}: say NAME=VALUE, as in {example}")
        pairs[name] = value
    return pairs

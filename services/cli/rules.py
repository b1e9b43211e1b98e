"""``rule``: routing rules, one by one; a site file has them all together."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import JsonValue
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from services.cli.ruletext import RuleText, read_rule_file
from shared.errors import BadSetting, ContractError, MeshError, NotFound
from shared.runtime.service import Platform
from shared.site.documents import RuleDocument
from shared.site.drafts import with_stored_secrets
from shared.site.masked import masked_rule
from shared.site.parts import Sealing

#: YAML 1.1, 4.1.1 and 4.1.4.
_NOT_YAML = re.compile("[\\x7f-\\x9f\\u2028\\u2029\\ufeff\\ufffe\\uffff]")
#: Numbers and menus in a line of the list.
_SOME = 3
_RULE = typer.Argument(metavar="TENANT/NAME", help="Which rule.")


def register(app: typer.Typer) -> None:
    rule = typer.Typer(help="Routing rules.", no_args_is_help=True)
    rule.command("list")(list_rules)
    rule.command()(show)
    rule.command()(put)
    rule.command()(versions)
    rule.command()(rollback)
    rule.command()(delete)
    app.add_typer(rule, name="rule")


def list_rules(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    search: Annotated[
        str, typer.Option(help="Only with this in a name, field, DID, menu or CRM.")
    ] = "",
) -> None:
    """List routing rules."""

    async def work() -> Table:
        table = Table()
        for name in ("rule", "field", "for", "crm", "rows", "version", "changed", "by"):
            table.add_column(name, no_wrap=name in {"rule", "for"})
        async with looking() as platform:
            await platform.rules.refresh()
            for owner, documents in sorted(platform.rules.current.items()):
                for document in documents.values():
                    if tenant in {None, owner} and document.has(search):
                        table.add_row(*_cells(document))
        return table

    out.print(run_async(work()))


def show(
    rule: Annotated[str, _RULE],
    version: Annotated[int | None, typer.Option(help="As it was, by its number.")] = None,
) -> None:
    """Print a routing rule as a site file has it; secrets are asterisks."""
    tenant, name = _named(rule)

    async def work() -> str:
        async with looking() as platform:
            await platform.rules.refresh()
            if version is None:
                return _there(platform, tenant, name).source
            _, source = await platform.rule_desk().version(tenant, name, version)
            return source

    source = run_async(work())
    typer.echo(_as_yaml(json.loads(source)) if source else f"# {name} was deleted here")


def put(
    tenant: Annotated[str, typer.Argument(help="Whose rule.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.YAML", help="A rule, as in a site file.")],
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="ROWS.CSV",
            help="Its rows: operator, value, destination, priority and of (what is asked about). "
            "Several values (in, between), and several destinations, have a | between them.",
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Only if it is at this version; 0: only if it is new.")
    ] = None,
) -> None:
    """Make a routing rule, or change it; running services notice within a second.

    What `rule show` prints can be put again: its asterisks stand for the stored secrets.
    """

    async def work() -> tuple[RuleDocument | None, RuleDocument]:
        async with looking() as platform:
            sealing = Sealing(platform.secrets, os.environ, file.parent)  # noqa: TID251  {env: NAME} in the file
            text = read_rule_file(file, rows=rows, sealing=sealing)
            await platform.rules.refresh()
            old = platform.rules.of(tenant).get(text.rule.name)
            # As `show` prints it: asterisks stand for what is stored.
            rule = with_stored_secrets(text.rule, text.document.value, old)
            # They were read from that version.
            expected = old.number if version is None and old is not None else version
            with out.status(f"checking {len(rule.rows)} rows"):
                async with noted(platform, tenant, "put_rule", f"rule {rule.name}"):
                    try:
                        new = await platform.rule_desk().put_rule(
                            tenant, rule, by=_who(), expected=expected
                        )
                    except ContractError as error:
                        raise _with_lines(error, text) from None
            return old, new

    old, new = run_async(work())
    if old is not None and old.number == new.number:
        out.print(f"{tenant}/{new.name} is so already: version {new.number}", markup=False)
    else:
        out.print(
            f"{tenant}/{new.name} {new.what}: version {new.number}, {new.rows} row(s)", markup=False
        )


def versions(rule: Annotated[str, _RULE]) -> None:
    """List what a routing rule was, and who changed it."""
    tenant, name = _named(rule)

    async def work() -> Table:
        table = Table("version", "what", "rows", "changed", "by")
        async with looking() as platform:
            for one in await platform.rule_desk().versions(tenant, name):
                at = f"{one.changed_at:%Y-%m-%d %H:%M:%S}"
                cells = (str(one.number), one.what, str(one.rows), at, one.changed_by)
                table.add_row(*map(escape, cells))
        return table

    out.print(run_async(work()))


def rollback(
    rule: Annotated[str, _RULE],
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version to go back to.")],
) -> None:
    """Make a routing rule what it was, as a new version; also one that was deleted."""
    tenant, name = _named(rule)

    async def work() -> RuleDocument:
        async with looking() as platform:
            words = f"rule {name} to version {version}"
            async with noted(platform, tenant, "roll_back_rule", words):
                return await platform.rule_desk().roll_back(tenant, name, version, by=_who())

    new = run_async(work())
    out.print(f"{tenant}/{name} is as version {version} was: version {new.number}", markup=False)


def delete(
    rule: Annotated[str, _RULE],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a routing rule; its versions stay."""
    tenant, name = _named(rule)

    async def work(*, sure: bool) -> None:
        async with looking() as platform:
            await platform.rules.refresh()
            _there(platform, tenant, name)
            if sure:
                async with noted(platform, tenant, "delete_rule", f"rule {name}"):
                    await platform.rule_desk().delete_rule(tenant, name, by=_who())

    if not yes:
        run_async(work(sure=False))
        typer.confirm(f"Are you sure you want to remove '{name}'?", abort=True)
    run_async(work(sure=True))
    out.print(f"deleted {tenant}/{name}", markup=False)


def _with_lines(error: ContractError, text: RuleText) -> MeshError:
    faults = error.details.get("faults", ())
    lines = [text.at(path[2:], what) for path, what in faults]
    return BadSetting("\n".join(lines)) if lines else error


def _named(rule: str) -> tuple[str, str]:
    """Raises: NotFound."""
    tenant, _, name = rule.partition("/")
    if not name:
        raise NotFound(f"{rule}: say TENANT/NAME")
    return tenant, name


def _there(platform: Platform, tenant: str, name: str) -> RuleDocument:
    """Raises: NotFound."""
    found = platform.rules.of(tenant).get(name)
    if found is None:
        raise NotFound(f"there is no rule {tenant}/{name}")
    return found


def _who() -> str:
    try:
        return f"{pwd.getpwuid(os.getuid()).pw_name}, callmesh rule"
    except KeyError:  # a container's user has a number and no name
        return f"user {os.getuid()}, callmesh rule"


def _cells(document: RuleDocument) -> list[str]:
    location = [f"menu {ivr}" for ivr in document.ivrs] + list(document.dids)
    cells = (
        document.key,
        document.field or "",
        ", ".join(location[:_SOME] + ["…"] * (len(location) > _SOME)) or "other rules",
        document.crm_words,
        str(document.rows),
        str(document.number),
        f"{document.changed_at:%Y-%m-%d %H:%M}",
        document.changed_by,
    )
    return [escape(cell) for cell in cells]


def _as_flow(row: JsonValue) -> str:
    """JSON is YAML but for characters that YAML takes for the end of a line, or not at all."""
    text = json.dumps(row, ensure_ascii=False)
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _as_yaml(rule: dict[str, Any]) -> str:
    """A line per row: of a hundred thousand, too."""
    shown = masked_rule(rule)
    rows = shown.pop("rows")
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    lines = [f"  - {_as_flow(row)}" for row in rows]  # type: ignore[union-attr]  # a list, as stored
    return "\n".join([f"{text}rows:", *lines])

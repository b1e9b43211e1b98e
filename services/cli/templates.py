"""``template``: what a connector author needs, from an empty file to a CRM that answers."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import out, read_environment
from services.cli.trying import try_out
from shared.crm.abilities import abilities
from shared.crm.form.manifest import Manifest
from shared.crm.lint import Level, lint
from shared.crm.registry import Templates, read_file, read_text
from shared.errors import BadSetting
from shared.yamltext import read_yaml

_MARKS = {"taken": "[green]+[/]", "changed": "[yellow]~[/]", "left": "[red]-[/]"}


class Vendor(StrEnum):
    YEASTAR = "yeastar"
    THREECX = "3cx"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="CRM connector templates.", no_args_is_help=True)
    group.command("list")(list_templates)
    group.command("show")(show)
    group.command("lint")(lint_files)
    group.command("test")(try_out)
    group.command("import")(import_file)
    group.command("export")(export)
    group.command("schema")(schema)
    app.add_typer(group, name="template")


def known_templates() -> Templates:
    """Those that ship and those of CALLMESH_TEMPLATES_DIR."""
    return Templates(read_environment(quiet=True).mesh.templates_dir)


def named(name: str) -> Manifest:
    """A template by its name, or by the path of its file. Raises: BadSetting, NotFound."""
    if _is_file(name):
        return read_file(Path(name))
    return known_templates().get(name)


def list_templates() -> None:
    """List the connector templates: what each can do, and how far it has been tried."""
    known = known_templates()
    table = Table("name", "CRM", "can", "tried")
    faults = []
    for name in known.names():
        try:
            manifest = known.get(name)
        except BadSetting as error:
            faults.append(error.message)
            continue
        table.add_row(
            name, escape(manifest.title), ", ".join(abilities(manifest)), manifest.quality
        )
    out.print(table)
    for fault in faults:
        out.print(fault, style="red", markup=False)
    if faults:
        raise typer.Exit(1)


def show(
    name: Annotated[str, typer.Argument(help="A template's name, or a file.")],
    source: Annotated[bool, typer.Option("--yaml", help="Print the file itself.")] = False,
) -> None:
    """Show a template: what it asks for, what it searches, where its facts come from."""
    if source:
        out.print(_source(name), markup=False)
        return
    manifest = named(name)
    out.print(f"[bold]{escape(manifest.title)}[/] ({manifest.name}), {manifest.quality}")
    if manifest.description:
        out.print(manifest.description, markup=False)
    out.print(f"can: {', '.join(abilities(manifest))}")
    table = Table("set-up", "what", "default")
    for parameter in manifest.parameters:
        words = " ".join(filter(None, (parameter.title, parameter.help)))
        default = "needed" if parameter.default is None else parameter.default
        table.add_row(parameter.name, escape(words), escape(default))
    for credential in manifest.credentials:
        words = " ".join(filter(None, (credential.title, credential.help)))
        table.add_row(credential.name, escape(words), "secret" if credential.required else "")
    out.print(table)
    table = Table("contact type", "numbers in", "page")
    for module, contact in manifest.contacts.items():
        numbers = contact.phone_fields or contact.map.phones
        page = contact.page_url or contact.map.page or ""
        table.add_row(module, escape(", ".join(numbers)), escape(page))
    out.print(table)
    limits = manifest.limits
    rates = [f"{rate.requests} in {rate.per.total_seconds():g} s" for rate in limits.rates]
    out.print(f"limits: {', '.join([*rates, f'{limits.concurrent} at once'])}")
    for origin in manifest.sources:
        out.print(f"source: {origin}", markup=False)


def lint_files(
    files: Annotated[
        list[str] | None, typer.Argument(help="Names or files; none: every template there is.")
    ] = None,
) -> None:
    """Check templates; exit 1 when one cannot work. Faults have file, line and place."""
    wrong = 0
    for name in files or known_templates().names():
        try:
            manifest = named(name)
        except BadSetting as error:
            out.print(error.message, style="red", markup=False)
            wrong += 1
            continue
        document = read_yaml(_source(name), typed=True)
        for finding in lint(manifest):
            where = ".".join(map(str, finding.path))
            line = f"{name}:{document.line_of(finding.path)}: {where}: {finding.what}"
            out.print(line, style="red" if finding.level is Level.ERROR else "yellow", markup=False)
            wrong += finding.level is Level.ERROR
    if wrong:
        raise typer.Exit(1)
    out.print("no faults")


def import_file(
    file: Annotated[Path, typer.Argument(help="A template of another system, XML.")],
    vendor: Annotated[
        Vendor | None, typer.Option("--from", help="Else seen from the file.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it shall be called.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write it; else it is shown.")
    ] = None,
) -> None:
    """Turn a Yeastar or 3CX template into ours, and say what was taken, changed and left."""
    # Not at the top: every process of the mesh would pay for it at its start.
    from shared.crm.importing.report import to_yaml
    from shared.crm.importing.threecx.importer import import_threecx
    from shared.crm.importing.yeastar.importer import import_yeastar

    try:
        text = file.read_bytes()
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read: {error.strerror}") from None
    threecx = vendor is Vendor.THREECX or (vendor is None and b"<Crm" in text[:5000])
    made = (import_threecx if threecx else import_yeastar)(text, name=name)
    _written(to_yaml(made.template), output)
    for note in made.notes:
        out.print(_MARKS[note.level], end=" ")
        out.print(f"{note.place}: {note.what}", markup=False)
    if output is not None:
        out.print(f"written to {output}; next: callmesh template lint {output}", markup=False)


def export(
    name: Annotated[str, typer.Argument(help="A template's name, or a file.")],
    output: Annotated[
        Path | None, typer.Option(help="Where to write it; else it is shown.")
    ] = None,
) -> None:
    """Write a template as Yeastar XML, and say what that form cannot hold."""
    from shared.crm.importing.yeastar.export import export_yeastar  # as above

    text, notes = export_yeastar(named(name))
    _written(text, output)
    for note in notes:
        out.print(f"{_MARKS[note.level]} ", end="")
        out.print(f"{note.place}: {note.what}", markup=False)


def schema() -> None:
    """Print the JSON Schema of templates, for editors."""
    typer.echo(json.dumps(Manifest.model_json_schema(), indent=2))


def _source(name: str) -> str:
    if _is_file(name):
        return read_text(Path(name))
    return known_templates().source(name)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name


def _written(text: str, output: Path | None) -> None:
    """Raises: BadSetting."""
    if output is None:
        out.print(text, markup=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadSetting(f"{output}: cannot be written: {error.strerror}") from None

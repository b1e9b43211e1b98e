"""A connector template that somebody is writing: checked, or taken over, and not kept."""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.deps import HttpDeps
from shared.crm.lint import Level, lint
from shared.crm.registry import read_template
from shared.errors import BadSetting, ContractError
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, Routes
from shared.ids import Name
from shared.yamltext import read_yaml

routes: Routes[HttpDeps] = Routes(tag="mesh")

#: A template has some kilobytes; what is larger is for the command.
MOST_TEXT = 400_000
_SOURCE = "template"
#: ``template:12: contacts.Leads.map: what is wrong``, as a reader of templates says it.
_FAULT = re.compile(rf"{_SOURCE}:(?P<line>\d+): (?P<where>[^:]*): (?P<what>.*)")


class LintIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    yaml: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)] = Field(
        description="The file's text: docs/reference/template-language.md."
    )


class LintTemplate(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[LintIn]


class TemplateFinding(BaseModel):
    """*error*: it cannot work as it stands."""

    level: Level
    line: int | None = None
    where: str = Field(description="`contacts.Leads.map`.")
    what: str


class LintResult(BaseModel):
    """Nothing is kept."""

    well: bool = Field(description="Whether it can be used; there may be warnings.")
    name: str | None = Field(default=None, description="As it calls itself, where it can be read.")
    findings: tuple[TemplateFinding, ...]


class Vendor(StrEnum):
    YEASTAR = "yeastar"
    THREECX = "3cx"


class ImportIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    xml: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)] = Field(
        description="The other system's file."
    )
    vendor: Vendor | None = Field(default=None, description="Else seen from the file.")
    name: Name | None = Field(default=None, description="What it shall be called.")


class ImportTemplate(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ImportIn]


class ImportNote(BaseModel):
    """
    `taken`: it says the same as before; `changed`: look whether it still means the same; `left`: it
    is not in the template, and `what` says what to write by hand.
    """

    level: Annotated[str, StringConstraints(pattern=r"^(taken|changed|left)$")]
    place: str
    what: str


class ImportResult(LintResult):
    """Nothing is kept: give the text to the operator, who puts it into his templates' folder."""

    yaml: str
    notes: tuple[ImportNote, ...]


@routes("POST", "/v1/templates/lint", scope=Scope.SITE_READ, is_change=False)
async def lint_template(deps: HttpDeps, asked: LintTemplate) -> LintResult:
    """Check a template's text: as `callmesh template lint` does. Nothing is kept."""
    return await asyncio.to_thread(_linted, asked.body.yaml)


@routes("POST", "/v1/templates/import", scope=Scope.SITE_READ, is_change=False)
async def import_template(deps: HttpDeps, asked: ImportTemplate) -> ImportResult:
    """Turn a Yeastar or 3CX template into ours, and say what was taken, changed and left.

    As `callmesh template import` does. Nothing is kept.
    """
    return await asyncio.to_thread(_imported, asked.body)


def _linted(text: str) -> LintResult:
    try:
        manifest = read_template(text, source=_SOURCE)
    except BadSetting as error:
        faults = tuple(map(_fault, error.message.splitlines()))
        return LintResult(well=False, findings=faults)
    document = read_yaml(text, typed=True)
    findings = tuple(
        TemplateFinding(
            level=found.level,
            line=document.line_of(found.path),
            where=".".join(map(str, found.path)),
            what=found.what,
        )
        for found in lint(manifest)
    )
    well = all(found.level is not Level.ERROR for found in findings)
    return LintResult(well=well, name=manifest.name, findings=findings)


def _fault(text: str) -> TemplateFinding:
    if (found := _FAULT.fullmatch(text)) is None:
        what = text.removeprefix(f"{_SOURCE}: ")
        return TemplateFinding(level=Level.ERROR, where=_SOURCE, what=what)
    return TemplateFinding(
        level=Level.ERROR, line=int(found["line"]), where=found["where"], what=found["what"]
    )


def _imported(asked: ImportIn) -> ImportResult:
    """Raises: ContractError."""
    # Not at the top: every process of the mesh would pay for it at its start.
    from shared.crm.importing.report import to_yaml
    from shared.crm.importing.threecx.importer import import_threecx
    from shared.crm.importing.yeastar.importer import import_yeastar

    threecx = asked.vendor is Vendor.THREECX or (
        asked.vendor is None and "<Crm" in asked.xml[:5000]
    )
    try:
        made = (import_threecx if threecx else import_yeastar)(asked.xml, name=asked.name)
    except BadSetting as error:
        raise ContractError(f"body.xml: {error.message}") from None
    text = to_yaml(made.template)
    return ImportResult(
        **dict(_linted(text)),
        yaml=text,
        notes=tuple(ImportNote(level=n.level, place=n.place, what=n.what) for n in made.notes),
    )

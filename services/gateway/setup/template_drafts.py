"""A connector template that somebody is writing: checked, or taken over, and not kept."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.gateway.deps import HttpDeps
from shared.crm.lint import Level, lint
from shared.crm.registry import read_template
from shared.errors import BadSetting, ContractError, TooMany
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, Routes
from shared.ids import Name
from shared.yamltext import read_yaml

routes: Routes[HttpDeps] = Routes(tag="mesh")

T = TypeVar("T")

#: A template has some kilobytes, and its logo; what is larger is for the command. YAML is read by
#: Python, ten seconds of it for a megabyte, a logo is a word of it.
MOST_TEXT, MOST_WITHOUT_LOGO = 400_000, 64_000
_LOGO = re.compile(r"data:image/[a-z0-9.+-]+;base64,[A-Za-z0-9+/=]+")
#: Their own, and one: rules and recordings wait for the threads of all. A draft takes it for a
#: second at most, and a tenant has so many at once.
THREAD = ThreadPoolExecutor(1, thread_name_prefix="drafts")
MOST_OF_ONE = 2
_AGAIN = timedelta(seconds=1)
_UNDER_WAY: Counter[str] = Counter()
_SOURCE = "template"
#: ``template:12: contacts.Leads.map: what is wrong``, as a reader of templates says it.
_FAULT = re.compile(rf"{_SOURCE}:(?P<line>\d+): (?P<where>[^:]*): (?P<what>.*)")


class LintIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    yaml: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)] = Field(
        description="The file's text: docs/reference/template-language.md. Of its characters, "
        f"{MOST_WITHOUT_LOGO} beside the logo at most."
    )

    @field_validator("yaml")
    @classmethod
    def is_a_templates(cls, yaml: str) -> str:
        if len(_LOGO.sub("", yaml)) > MOST_WITHOUT_LOGO:
            raise ValueError(f"over {MOST_WITHOUT_LOGO} characters beside the logo")
        return yaml


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
    return await _read(asked.caller.tenant, partial(_linted, asked.body.yaml))


@routes("POST", "/v1/templates/import", scope=Scope.SITE_READ, is_change=False)
async def import_template(deps: HttpDeps, asked: ImportTemplate) -> ImportResult:
    """Turn a Yeastar or 3CX template into ours, and say what was taken, changed and left.

    As `callmesh template import` does. Nothing is kept.
    """
    return await _read(asked.caller.tenant, partial(_imported, asked.body))


async def _read(tenant: str, reading: Callable[[], T]) -> T:
    """Raises: TooMany; what *reading* does."""
    if _UNDER_WAY[tenant] >= MOST_OF_ONE:
        raise TooMany(
            f"{MOST_OF_ONE} templates of this tenant are being read; again in a moment.",
            retry_after=_AGAIN,
        )
    _UNDER_WAY[tenant] += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(THREAD, reading)
    finally:
        _UNDER_WAY[tenant] -= 1
        if not _UNDER_WAY[tenant]:
            del _UNDER_WAY[tenant]


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

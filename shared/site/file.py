"""A site file: tenants as an administrator writes them, checked with the line of every fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, ValidationError

from shared.crm.registry import Templates, check_credentials, parameters_of
from shared.errors import BadSetting, NotFound
from shared.faults import faults_by_path
from shared.site.models import CrmConnection, Site
from shared.site.parts import Part, PartPath, Sealing
from shared.yamltext import YamlText, read_yaml


class SiteFile(Part):
    version: Annotated[int, Field(ge=1, le=1)] = 1
    tenants: Annotated[tuple[Site, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a site file is checked against; *may_be_plain*: hosts that plain http may go to."""

    templates: Templates = field(default_factory=Templates)
    may_be_plain: Callable[[str], bool] = lambda _: False


def read_site_file(
    text: str, *, source: str, sealing: Sealing, around: Surroundings | None = None
) -> tuple[Site, ...]:
    """
    The sites of the file, secrets sealed; without *around* with the templates that ship.

    Raises: BadSetting with a line for each fault: ``site.yaml:12: tenants.0.rules.1.crm: …``.
    """
    try:
        document = read_yaml(text)
    except BadSetting as error:
        raise BadSetting(f"{source}: {error.message}") from None
    try:
        file = SiteFile.model_validate(document.value, context=sealing)
    except ValidationError as error:
        faults = [
            _line(source, document, _path(path), what)
            for path, what in faults_by_path(error, SiteFile)
        ]
        raise BadSetting("\n".join(faults)) from None
    faults = [
        _line(source, document, path, what)
        for path, what in _faults(file, around or Surroundings())
    ]
    if faults:
        raise BadSetting("\n".join(faults))
    return file.tenants


def _faults(file: SiteFile, around: Surroundings) -> Iterator[tuple[PartPath, str]]:
    tenants = [site.tenant for site in file.tenants]
    for place, site in enumerate(file.tenants):
        if site.tenant in tenants[:place]:
            yield ("tenants", place, "tenant"), f"tenant {site.tenant} is there twice"
        for path, what in site.faults():
            yield ("tenants", place, *path), what
        for number, crm in enumerate(site.crm):
            for path, what in _template_faults(crm, around):
                yield ("tenants", place, "crm", number, *path), what
        for number, rule in enumerate(site.rules):
            known = site.crm_named(rule.crm)
            for what in _module_faults(rule.modules, known, around):
                yield ("tenants", place, "rules", number, "modules"), what


def _template_faults(crm: CrmConnection, around: Surroundings) -> Iterator[tuple[PartPath, str]]:
    try:
        manifest = around.templates.get(crm.template)
    except (NotFound, BadSetting) as error:
        yield ("template",), error.message
        return
    for part, check in (
        (
            "parameters",
            lambda: parameters_of(manifest, crm.parameters, may_be_plain=around.may_be_plain),
        ),
        ("credentials", lambda: check_credentials(manifest, crm.credentials)),
    ):
        try:
            check()
        except BadSetting as error:
            yield (part,), error.message
    for what in _module_faults(crm.modules, crm, around):
        yield ("modules",), what
    if crm.create is not None:
        contact = manifest.contacts.get(crm.create.module)
        if contact is None or contact.create is None:
            able = [name for name, known in manifest.contacts.items() if known.create]
            what = f"the template cannot create {crm.create.module}; it can: {', '.join(able)}"
            yield ("create", "module"), what


def _module_faults(
    modules: tuple[str, ...], crm: CrmConnection | None, around: Surroundings
) -> Iterator[str]:
    try:
        known = around.templates.get(crm.template).contacts if crm else {}
    except (NotFound, BadSetting):
        return
    for module in modules:
        if known and module not in known:
            yield f"the template has no contact type {module}; it has: {', '.join(known)}"


def _path(loc: tuple[int | str, ...]) -> PartPath:
    """Pydantic names the member of a union in the path; it stands nowhere in the file."""
    match loc:
        case ("tenants", int(), "pbx", int(), str(), *_):
            return (*loc[:4], *loc[5:])
        case _:
            return loc


def _line(source: str, document: YamlText, path: PartPath, what: str) -> str:
    where = ".".join(map(str, path)) or "the file"
    return f"{source}:{document.line_of(path)}: {where}: {what}"

"""A site file: tenants as an administrator writes them, checked with the line of every fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, ValidationError

from shared.errors import BadSetting
from shared.faults import faults_by_path
from shared.site.models import Site
from shared.site.parts import Part, PartPath, Sealing
from shared.site.rules.checks import lonely, outline_of, rule_faults
from shared.site.rules.misread import as_meant
from shared.site.rules.rule import RoutingRule
from shared.site.templated import Surroundings, connection_faults, rule_words_faults
from shared.yamltext import YamlText, read_yaml

__all__ = ["SiteFile", "Surroundings", "WholeSite", "read_site_file"]


class WholeSite(Site):
    """Everything of one tenant, its routing rules too: as a file says it, and nobody stores it."""

    rules: tuple[RoutingRule, ...] = ()

    @property
    def stored(self) -> Site:
        """Without the rules."""
        parts = {name: getattr(self, name) for name in Site.model_fields}
        return Site.model_construct(_fields_set=self.model_fields_set - {"rules"}, **parts)

    def faults(self) -> list[tuple[PartPath, str]]:
        alone = lonely([outline_of(rule) for rule in self.rules])
        return [*super().faults(), *rule_faults(self, self.rules), *alone]


class SiteFile(Part):
    version: Annotated[int, Field(ge=1, le=1)] = 1
    tenants: Annotated[tuple[WholeSite, ...], Field(min_length=1)]


def read_site_file(
    text: str, *, source: str, sealing: Sealing, around: Surroundings | None = None
) -> tuple[WholeSite, ...]:
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
        faults = [line(source, document, path, what) for path, what in _misread(error)]
        raise BadSetting("\n".join(faults)) from None
    faults = [
        line(source, document, path, what) for path, what in _faults(file, around or Surroundings())
    ]
    if faults:
        raise BadSetting("\n".join(faults))
    return file.tenants


def line(source: str, document: YamlText, path: PartPath, what: str) -> str:
    """``site.yaml:12: tenants.0.rules.1.crm: what``."""
    where = ".".join(map(str, path)) or "the file"
    return f"{source}:{document.line_of(path)}: {where}: {what}"


def _faults(file: SiteFile, around: Surroundings) -> Iterator[tuple[PartPath, str]]:
    tenants = [site.tenant for site in file.tenants]
    for place, site in enumerate(file.tenants):
        if site.tenant in tenants[:place]:
            yield ("tenants", place, "tenant"), f"tenant {site.tenant} is there twice"
        for path, what in site.faults():
            yield ("tenants", place, *path), what
        for number, crm in enumerate(site.crm):
            for path, what in connection_faults(crm, around):
                yield ("tenants", place, "crm", number, *path), what
        for number, rule in enumerate(site.rules):
            known = site.crm_named(rule.crm) if rule.crm else None
            for path, what in rule_words_faults(rule, known, around.templates):
                yield ("tenants", place, "rules", number, *path), what


def _misread(error: ValidationError) -> Iterator[tuple[PartPath, str]]:
    of_rules: list[tuple[PartPath, str]] = []
    for path, what in faults_by_path(error, SiteFile):
        match path:
            # Pydantic names the member of a union in the path; it stands nowhere in the file.
            case ("tenants", int(), "pbx", int(), str(), "fetch_recordings", str(), *_):
                yield (*path[:4], path[5], *path[7:]), what
            case ("tenants", int(), "pbx", int(), str(), *_):
                yield (*path[:4], *path[5:]), what
            case ("tenants", int(), "rules", int(), *_):
                of_rules.append((path, what))
            case _:
                yield path, what
    yield from as_meant(of_rules, at=4)

"""Connector templates by name: those that ship, read and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from pydantic import ValidationError

from shared.crm.engine.manifest import Manifest
from shared.crm.language.text import compile_text
from shared.errors import BadSetting, NotFound
from shared.faults import faults_by_path
from shared.yamltext import read_yaml


@cache
def templates() -> Mapping[str, Manifest]:
    """Every template of the package. Raises: BadSetting, which names file and line."""
    folder = resources.files("shared.crm") / "templates"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            manifest = read_template(file.read_text(), source=file.name)
            found[manifest.name] = manifest
    return found


def template(name: str) -> Manifest:
    """Raises: NotFound, which says what there is."""
    try:
        return templates()[name]
    except KeyError:
        raise NotFound(
            f"there is no template {name}; there are: {', '.join(templates())}"
        ) from None


def read_template(text: str, *, source: str) -> Manifest:
    """Raises: BadSetting with one line per fault: file, line, place, what is wrong."""
    try:
        document = read_yaml(text)
    except BadSetting as error:
        raise BadSetting(f"{source}: {error.message}") from None
    try:
        return Manifest.model_validate(document.value)
    except ValidationError as error:
        faults = [
            f"{source}:{document.line_of(path)}: {'.'.join(map(str, path)) or 'template'}: {what}"
            for path, what in faults_by_path(error, Manifest)
        ]
        raise BadSetting("\n".join(faults)) from None


def parameters_of(manifest: Manifest, given: Mapping[str, str]) -> dict[str, str]:
    """
    *given* completed by the template's defaults.

    Raises: BadSetting for one that is missing, unknown, or none of its options.
    """
    unknown = sorted(set(given) - {parameter.name for parameter in manifest.parameters})
    if unknown:
        known = ", ".join(parameter.name for parameter in manifest.parameters)
        raise BadSetting(
            f"template {manifest.name} has no parameter {', '.join(unknown)}; it has: {known}"
        )
    values: dict[str, str] = {}
    for parameter in manifest.parameters:
        if parameter.name in given:
            value = given[parameter.name]
        elif parameter.default is not None:
            value = compile_text(parameter.default).text(values, maps=manifest.maps)
        else:
            raise BadSetting(f"template {manifest.name} needs the parameter {parameter.name}")
        if parameter.options and value not in parameter.options:
            raise BadSetting(
                f"template {manifest.name}: {parameter.name} is one of "
                f"{', '.join(parameter.options)}, not {value}"
            )
        values[parameter.name] = value
    return values


def check_credentials(manifest: Manifest, given: Mapping[str, object]) -> None:
    """Raises: BadSetting for one that is missing or unknown."""
    wanted = {credential.name for credential in manifest.credentials}
    if missing := sorted(wanted - set(given)):
        raise BadSetting(f"template {manifest.name} needs the credential {', '.join(missing)}")
    if unknown := sorted(set(given) - wanted):
        raise BadSetting(f"template {manifest.name} has no credential {', '.join(unknown)}")

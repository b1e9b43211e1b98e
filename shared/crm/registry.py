"""Connector templates by name: those that ship, and those of the operator's folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from shared.crm.form.access import Parameter, ParameterKind
from shared.crm.form.manifest import Manifest
from shared.crm.form.patterns import fits
from shared.crm.language.text import compile_text
from shared.errors import BadSetting, NotFound
from shared.faults import faults_by_path
from shared.yamltext import read_yaml

#: A template is some kilobytes; a logo in it may have half a megabyte.
_LARGEST = 1_000_000
_SWITCH = ("yes", "no")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Templates:
    """
    Those of the package, then the ``*.yaml`` files of *folder*, which may replace one of the same
    name: a file is called as its template. Each is read when it is first wanted, and again when
    its file has changed. A faulty one is no reason to have none: its name is answered with what is
    wrong with it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Raises: BadSetting for a folder that is not there."""
        if folder is not None and not folder.is_dir():
            raise BadSetting(f"CALLMESH_TEMPLATES_DIR: there is no folder {folder}")
        self._folder = folder
        self._held: dict[str, tuple[tuple[int, int], Manifest]] = {}

    def names(self) -> tuple[str, ...]:
        own = {file.stem for file in self._folder.glob("*.yaml")} if self._folder else set()
        return tuple(sorted({*shipped_names(), *own}))

    def get(self, name: str) -> Manifest:
        """Raises: NotFound, which says what there is; BadSetting for a faulty file."""
        file = self._own(name)
        if file is not None:
            mark = (file.stat().st_mtime_ns, file.stat().st_size)
            held = self._held.get(name)
            if held is None or held[0] != mark:
                held = self._held[name] = mark, read_file(file)
            return held[1]
        if name in shipped_names():
            return shipped(name)
        raise self._unknown(name)

    def source(self, name: str) -> str:
        """The text of its file. Raises: as :meth:`get`."""
        file = self._own(name)
        if file is not None:
            return read_text(file)
        if name in shipped_names():
            return (resources.files("shared.crm") / "templates" / f"{name}.yaml").read_text()
        raise self._unknown(name)

    def _unknown(self, name: str) -> NotFound:
        return NotFound(f"there is no template {name}; there are: {', '.join(self.names())}")

    def _own(self, name: str) -> Path | None:
        if self._folder is None or not _NAME.fullmatch(name):
            return None
        file = self._folder / f"{name}.yaml"
        return file if file.is_file() else None


@cache
def shipped_names() -> tuple[str, ...]:
    folder = resources.files("shared.crm") / "templates"
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


@cache
def shipped(name: str) -> Manifest:
    """Raises: BadSetting, which names file and line."""
    file = resources.files("shared.crm") / "templates" / f"{name}.yaml"
    return _called(read_template(file.read_text(), source=file.name), name, file.name)


def read_file(file: Path) -> Manifest:
    """Raises: BadSetting with one line per fault."""
    return _called(read_template(read_text(file), source=file.name), file.stem, file.name)


def read_text(file: Path) -> str:
    """Raises: BadSetting."""
    try:
        if file.stat().st_size > _LARGEST:
            raise BadSetting(f"{file.name}: larger than {_LARGEST} bytes")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{file.name}: cannot be read: {error}") from None


def _called(manifest: Manifest, name: str, source: str) -> Manifest:
    if manifest.name != name:
        raise BadSetting(
            f"{source}: name: the template is called {manifest.name} and its file is not; "
            f"call it {manifest.name}.yaml"
        )
    return manifest


def read_template(text: str, *, source: str) -> Manifest:
    """Raises: BadSetting with one line per fault: file, line, place, what is wrong."""
    try:
        document = read_yaml(text, typed=True)
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


def parameters_of(
    manifest: Manifest,
    given: Mapping[str, str],
    *,
    may_be_plain: Callable[[str], bool] = lambda _: False,
) -> dict[str, str]:
    """
    *given* completed by the template's defaults. *may_be_plain* says of a host whether plain http
    may go there where the template wants https.

    Raises: BadSetting for one that is missing, unknown, or not as the template wants it.
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
        for fault in _faults(parameter, value, may_be_plain):
            raise BadSetting(f"template {manifest.name}: {parameter.name} {fault}")
        values[parameter.name] = value
    return values


def check_credentials(manifest: Manifest, given: Mapping[str, object]) -> None:
    """Raises: BadSetting for one that is missing or unknown."""
    wanted = {credential.name for credential in manifest.credentials if credential.required}
    known = {credential.name for credential in manifest.credentials}
    if missing := sorted(wanted - set(given)):
        raise BadSetting(f"template {manifest.name} needs the credential {', '.join(missing)}")
    if unknown := sorted(set(given) - known):
        raise BadSetting(f"template {manifest.name} has no credential {', '.join(unknown)}")


def _faults(parameter: Parameter, value: str, may_be_plain: Callable[[str], bool]) -> Iterator[str]:
    if parameter.options and value not in parameter.options:
        yield f"is one of {', '.join(parameter.options)}, not {value}"
    if parameter.pattern and not fits(parameter.pattern, value):
        yield f"must look like {parameter.pattern}"
    if parameter.kind is ParameterKind.SWITCH and value not in _SWITCH:
        yield f"is yes or no, not {value}"
    if parameter.kind is ParameterKind.NUMBER and not re.fullmatch(r"-?[0-9]{1,15}", value):
        yield f"is a whole number, not {value}"
    if parameter.kind is ParameterKind.URL and value:
        parts = _address(value)
        if parts is None:
            yield "is an address: https://host/path, without user and password"
        elif parts.scheme == "http" and parameter.https and not may_be_plain(parts.hostname or ""):
            yield (
                "must begin with https://; the operator can allow plain http to a host in "
                "CALLMESH_NET_PLAIN"
            )


def _address(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    known = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    return parts if known else None

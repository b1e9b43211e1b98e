"""Secrets as who reads settings sees them, and what comes back of that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import JsonValue

from shared.errors import ContractError
from shared.secrets import PREFIX
from shared.site.parts import KEPT

__all__ = ["KEPT", "is_sealed", "masked_rule", "unmasked_connection", "unmasked_rule"]


_HEADER = ("custom", "header", "value")
Settings = Mapping[str, JsonValue]


def is_sealed(value: object) -> bool:
    return isinstance(value, str) and value.startswith(PREFIX)


def masked_rule(rule: Settings) -> dict[str, JsonValue]:
    """The rule as JSON, its secrets as asterisks."""
    found: dict[str, Any] = dict(rule)
    for path in _secrets(rule):
        found = _with(found, path, KEPT)
    return found


def unmasked_rule(said: Settings, stored: Settings) -> tuple[dict[str, JsonValue], dict[str, str]]:
    """
    *said* with the seals of *stored* where it has asterisks, and those seals by their place. Who
    may not read a secret must not have it sent to a host of his, so where it would go to another,
    it has to be said again.

    Raises: ContractError.
    """
    seals = _secrets(stored)
    found: dict[str, Any] = dict(said)
    kept: dict[str, str] = {}
    for path, value in _places(said):
        if value != KEPT:
            continue
        where = ".".join(path)
        if path not in seals:
            raise ContractError(f"{where}: none is stored; say it")
        goes_by = ("custom", "url") if path == _HEADER else ("crm",)
        if _at(said, goes_by) != _at(stored, goes_by):
            raise ContractError(
                f"{'.'.join(goes_by)}: is another; say {where} again, as it will go there"
            )
        found = _with(found, path, seals[path])
        kept[where] = seals[path]
    return found, kept


def unmasked_connection(
    said: Settings, stored: Settings, *, harmless: Callable[[str], bool]
) -> tuple[dict[str, JsonValue], dict[str, str]]:
    """
    A CRM connection as :func:`unmasked_rule`. *harmless* says of a parameter whether no value of it
    leads to another server.

    Raises: ContractError.
    """
    credentials = said.get("credentials")
    if not isinstance(credentials, Mapping):
        return dict(said), {}
    there = stored.get("credentials")
    known = there if isinstance(there, Mapping) else {}
    kept: dict[str, str] = {}
    for name, value in credentials.items():
        if value == KEPT:
            if not is_sealed(seal := known.get(name)):
                raise ContractError(f"credentials: of {name} none is stored; say it")
            kept[name] = str(seal)
    if kept and (moved := _moved(said, stored, harmless)):
        again = " and ".join(f"credentials.{name}" for name in sorted(kept))
        raise ContractError(f"{moved}: is another; say {again} again, as it will go there")
    return {**said, "credentials": {**credentials, **kept}}, kept


def _moved(said: Settings, stored: Settings, harmless: Callable[[str], bool]) -> str | None:
    """What is another than it was and may lead to another server."""
    if said.get("template") != stored.get("template"):
        return "template"
    new, old = said.get("parameters"), stored.get("parameters")
    new, old = new if isinstance(new, Mapping) else {}, old if isinstance(old, Mapping) else {}
    for name in sorted({*new, *old}):
        if new.get(name) != old.get(name) and not harmless(name):
            return f"parameters.{name}"
    return None


def _secrets(rule: Settings) -> dict[tuple[str, ...], str]:
    return {path: value for path, value in _places(rule) if isinstance(value, str)}


def _places(rule: Settings) -> list[tuple[tuple[str, ...], JsonValue]]:
    """Where secrets stand, and what is there; of a rule that may not be one."""
    credentials = rule.get("credentials")
    found: list[tuple[tuple[str, ...], JsonValue]] = []
    if isinstance(credentials, Mapping):
        found += [(("credentials", name), value) for name, value in credentials.items()]
    if (value := _at(rule, _HEADER)) is not None:
        found.append((_HEADER, value))
    return found


def _at(rule: Settings, path: tuple[str, ...]) -> JsonValue:
    found: Any = rule
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found  # type: ignore[no-any-return]  # of a rule as JSON


def _with(rule: dict[str, Any], path: tuple[str, ...], value: str) -> dict[str, Any]:
    first, *rest = path
    inner = _with(rule[first], tuple(rest), value) if rest else value
    return {**rule, first: inner}

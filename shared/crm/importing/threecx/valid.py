"""What came out of an import has to be a template; parts that are none are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Notes
from shared.errors import BadSetting
from shared.faults import faults_by_path


def valid(template: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """Without the parts that are none. Raises: BadSetting where it cannot do without them."""
    fault = _fault(template)
    for what, take_out in _PARTS:
        if not fault:
            break
        shorter = take_out(template)
        if shorter is None:
            continue
        later = _fault(shorter)
        if later != fault:
            notes.left(what, f"cannot be said so; write it by hand: {fault[:300]}")
            template, fault = shorter, later
    if fault:
        raise BadSetting(f"the template cannot be imported: {fault[:1000]}")
    return template


def _fault(template: dict[str, Any]) -> str:
    try:
        Manifest.model_validate(template)
    except ValidationError as error:
        return "; ".join(
            f"{'.'.join(map(str, path)) or 'template'}: {what}"
            for path, what in faults_by_path(error, Manifest)
        )
    return ""


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    def take_out(template: dict[str, Any]) -> dict[str, Any] | None:
        return {k: v for k, v in template.items() if k != name} if name in template else None

    return take_out


def _of_contacts(name: str) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    def take_out(template: dict[str, Any]) -> dict[str, Any] | None:
        contacts = {
            module: {key: value for key, value in contact.items() if key != name}
            for module, contact in template["contacts"].items()
        }
        return {**template, "contacts": contacts} if contacts != template["contacts"] else None

    return take_out


#: In the order in which they are given up.
_PARTS: tuple[tuple[str, Callable[[dict[str, Any]], dict[str, Any] | None]], ...] = (
    ("journal", _without("journal")),
    ("contacts.*.create", _of_contacts("create")),
    ("contacts.*.page_url", _of_contacts("page_url")),
    ("auth", _without("auth")),
)

"""
What retailCRM holds, and its requests as the vendor's documents and client models have them: every
check is made with ``tests/data/crm-specs/retailcrm.yaml``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml
from jsonschema import Draft202012Validator

_SPEC = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "crm-specs" / "retailcrm.yaml").read_text()
)
#: Of a user, in the vendor's words.
STATUSES = ("free", "busy", "dinner", "break")
#: `limit` of a list.
PAGE_SIZES = (20, 50, 100)
#: The shared end of two spellings of one number.
_NATIONAL_DIGITS = 10


@dataclass
class User:
    id: int
    first_name: str = "Anna"
    last_name: str = "Agent"
    email: str = "anna@acme.example"
    active: bool = True
    #: Signed in.
    online: bool = True
    status: str = "free"

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "firstName": self.first_name,
            "lastName": self.last_name,
            "email": self.email,
            "active": self.active,
            "online": self.online,
            "status": self.status,
        }


@dataclass
class Customer:
    id: int
    first_name: str
    last_name: str = ""
    phones: tuple[str, ...] = ()
    manager_id: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def has(self, number: str) -> bool:
        wanted = digits(number)[-_NATIONAL_DIGITS:]
        ends = (digits(phone)[-_NATIONAL_DIGITS:] for phone in self.phones)
        return bool(wanted) and wanted in ends

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "firstName": self.first_name,
            "lastName": self.last_name,
            "phones": [{"number": phone} for phone in self.phones],
            **({"managerId": self.manager_id} if self.manager_id is not None else {}),
            **self.fields,
        }


def digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def form_field(body: str, name: str) -> tuple[Any, dict[str, str]]:
    """The JSON in the one field of a form; or what is wrong, by place."""
    try:
        form = parse_qs(body, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        return None, {name: "no form"}
    if set(form) != {name} or len(form[name]) != 1:
        return None, {name: f"fields are {', '.join(sorted(form))}"}
    try:
        return json.loads(form[name][0]), {}
    except ValueError:
        return None, {name: "no JSON"}


def faults(model: str, value: Any, at: str) -> Iterator[tuple[str, str]]:
    """What is wrong with *value* by the model, by place; *at* is the place of the whole."""
    schema = {"$ref": f"#/components/schemas/{model}", "components": _SPEC["components"]}
    for fault in Draft202012Validator(schema).iter_errors(value):
        yield at + "".join(f"[{name}]" for name in fault.path), fault.message


def setting_of(module: dict[str, Any]) -> dict[str, Any]:
    """A module as API v4 writes it."""
    telephony = module.get("integrations", {}).get("telephony", {})
    flat = {name: value for name, value in telephony.items() if name != "clientId"}
    flat |= {name: module[name] for name in ("code", "clientId", "active", "name")}
    return flat | ({"image": module["logo"]} if "logo" in module else {})


def module_of(setting: dict[str, Any]) -> dict[str, Any]:
    """What API v4 was told, as it is kept."""
    own = {name: setting[name] for name in ("code", "clientId", "active", "name")}
    own |= {"logo": setting["image"]} if "image" in setting else {}
    telephony = {name: value for name, value in setting.items() if name not in {*own, "image"}}
    return {**own, "integrationCode": own["code"], "integrations": {"telephony": telephony}}

"""Documents that are read by somebody else's rules, as the OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from shared.secrets import PREFIX

_SECRET = {
    "type": "string",
    "minLength": 1,
    "description": "A secret: its text. It is shown as asterisks, which keep what is stored.",
}


@dataclass(frozen=True, slots=True)
class AsIn:
    """
    Mark of a ``dict[str, JsonValue]``: what may stand in it is what *kind* takes, but for the
    fields in *without*, and with secrets as texts. It is not checked by this.
    """

    kind: Any
    without: Collection[str] = field(default=())

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = TypeAdapter(self.kind).json_schema(mode="validation")
        return _less(_inlined(schema, schema.get("$defs", {})), self.without)


def _less(schema: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    if "oneOf" in schema:
        # Which of them it is says a word that each requires.
        return {"anyOf": [_less(one, names) for one in schema["oneOf"]]}
    properties = {n: s for n, s in schema.get("properties", {}).items() if n not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    rest = {name: value for name, value in schema.items() if name not in {"title", "description"}}
    return {**rest, "properties": properties, "required": required}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Nothing of ours leads to itself there."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if str(schema.get("pattern", "")).startswith(f"^{PREFIX}"):
        return _SECRET
    if "$ref" in schema:
        found = _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        more = {k: v for k, v in schema.items() if k != "$ref"}
        return {**found, **_inlined(more, definitions)}
    return {
        name: _inlined(value, definitions)
        for name, value in schema.items()
        if name not in {"$defs", "discriminator"}
    }

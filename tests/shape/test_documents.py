"""What is generated is valid by the official schemas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SCHEMA = ROOT / "tests/tools/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"


def test_the_asyncapi_document_is_valid() -> None:
    assert SCHEMA.exists(), "make setup installs the official schema"
    document = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text())
    faults = list(Draft7Validator(json.loads(SCHEMA.read_text())).iter_errors(document))
    assert not faults, faults[0]


def test_every_reference_within_the_asyncapi_document_resolves() -> None:
    document = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text())

    def check(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                found: object = document
                for part in value["$ref"].removeprefix("#/").split("/"):
                    assert isinstance(found, dict), value["$ref"]
                    found = found[part]
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)

    check(document)


def test_the_openapi_document_is_valid() -> None:
    OpenAPIV31SpecValidator(json.loads((REFERENCE / "openapi.json").read_text())).validate()


@pytest.mark.parametrize("name", ["template.schema.json", "site.schema.json"])
def test_a_json_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(json.loads((REFERENCE / name).read_text()))

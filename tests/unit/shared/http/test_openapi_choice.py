"""What the OpenAPI document tells of chosen fields, ETags and merge patches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field, JsonValue, RootModel

from services.catalog import operations
from shared.http.auth import Scope
from shared.http.choice import cut, names_of, read_choice, things_at
from shared.http.described import AsIn
from shared.http.openapi import build
from shared.http.patching import MergePatch
from shared.http.routes import FromBody, FromPath, Routes
from shared.http.tags import OnlyIf, Tagged
from shared.site.models import CrmConnection
from shared.site.pbx import Pbx

routes: Routes[None] = Routes(tag="things")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Thing(Tagged):
    id: str
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    inner: Thing | None = None


class Things(BaseModel):
    things: tuple[Thing, ...]
    total: int


class OfThing(BaseModel):
    id: FromPath[str]


class ChangeThing(OnlyIf, OfThing):
    body: FromBody[MergePatch]


@routes("GET", "/v1/things", scope=Scope.CALLS_READ, fields=("things",))
async def list_things(_: None, asked: BaseModel) -> Things:
    """List things."""
    raise NotImplementedError


@routes("GET", "/v1/things/{id}", scope=Scope.CALLS_READ, fields=("",))
async def read_thing(_: None, asked: OfThing) -> Thing:
    """Read a thing."""
    raise NotImplementedError


@routes("PATCH", "/v1/things/{id}", scope=Scope.CALLS_WRITE)
async def patch_thing(_: None, asked: ChangeThing) -> Thing:
    """Change a thing."""
    raise NotImplementedError


DOCUMENT = build("things", "1", routes.operations)
ANSWER: dict[str, Any] = {
    "things": [
        {"id": "1", "pet": {"kind": "cat", "lives": 9}},
        {
            "id": "2",
            "pet": {"kind": "dog", "name": "Rex"},
            "inner": {"id": "3", "pet": {"kind": "cat", "lives": 7}},
        },
    ],
    "total": 2,
}


def faults(schema: dict[str, Any], answer: Any) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    return [fault.message for fault in Draft202012Validator(whole).iter_errors(answer)]


def schema_of(path: str, method: str = "get") -> dict[str, Any]:
    responses = DOCUMENT["paths"][path][method]["responses"]
    found: dict[str, Any] = responses["200"]["content"]["application/json"]["schema"]
    return found


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


@pytest.mark.parametrize(
    "fields", ["", "id", "pet.kind", "pet.name", "inner.pet.lives,id", "inner.inner.id", "pet"]
)
def test_what_is_chosen_is_as_the_document_says(fields: str) -> None:
    chosen = read_choice(fields, things_at(Things, "things"))
    answer = cut(ANSWER, ["things"], chosen)
    assert faults(schema_of("/v1/things"), answer) == []
    for thing in answer["things"]:
        assert faults(schema_of("/v1/things/{id}"), thing) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"things": [{"id": 5}], "total": 1},
        {"things": [{"pet": {"kind": "cow"}}], "total": 1},
        {"things": []},
        {"total": 1},
    ],
)
def test_an_answer_that_is_none_is_still_one_that_the_document_forbids(answer: Any) -> None:
    assert faults(schema_of("/v1/things"), answer)


def test_the_document_tells_of_tags_and_patches() -> None:
    read, patch = (DOCUMENT["paths"]["/v1/things/{id}"][method] for method in ("get", "patch"))
    for responses in (read["responses"], patch["responses"]):
        assert responses["200"]["headers"]["ETag"]["required"] is True
    assert read["responses"]["304"]["headers"]["ETag"]
    assert "412" not in read["responses"]
    assert patch["responses"]["412"]["description"] == "stale"
    names = {parameter["name"] for parameter in patch["parameters"]}
    assert names == {"id", "If-Match", "If-None-Match"}
    assert set(patch["requestBody"]["content"]) == {
        "application/merge-patch+json",
        "application/json",
    }
    listed = DOCUMENT["paths"]["/v1/things"]["get"]
    assert [parameter["name"] for parameter in listed["parameters"]] == ["fields"]
    assert "`id`, `pet`, `inner`" in listed["parameters"][0]["description"]
    assert "ETag" not in str(listed)
    assert "tag" not in DOCUMENT["components"]["schemas"]["Thing"]["properties"]


class Body(RootModel[Annotated[dict[str, JsonValue], AsIn(CrmConnection, without=("name",))]]):
    """A connection."""


class PbxBody(RootModel[Annotated[dict[str, JsonValue], AsIn(Pbx, without=("name",))]]):
    """A PBX."""


def test_a_document_is_described_as_what_reads_it_takes_it() -> None:
    schema = Body.model_json_schema()
    assert schema["description"] == "A connection."
    assert schema["required"] == ["template"]
    assert "name" not in schema["properties"]
    assert schema["additionalProperties"] is False
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"template": "zoho", "credentials": {"a": "plain"}, "fresh": "10m"})
    assert not validator.is_valid({"template": "zoho", "colour": "red"})
    assert "sealed" not in str(schema)
    kinds = Draft202012Validator(PbxBody.model_json_schema())
    assert kinds.is_valid({"kind": "generic", "senders": ["192.0.2.0/24"]})
    assert not kinds.is_valid({"kind": "generic", "host": "x"})
    assert not kinds.is_valid({"kind": "asterisk"})


def test_every_operation_that_can_be_cut_knows_what_it_is_cut_to() -> None:
    cuttable = [op for op in operations() if op.fields]
    assert len(cuttable) > 20
    for op in cuttable:
        for place in op.fields:
            things = things_at(op.response_model, place)
            assert things, (op.operation_id, place)
            assert all(names_of(thing) for thing in things), (op.operation_id, place)


def test_whatever_can_be_bound_to_a_tag_can_be_read_with_one() -> None:
    """A change that wants If-Match, of a thing that no one can get the tag of, cannot be made."""
    known = list(operations())
    tagged = {
        op.path for op in known if op.method == "GET" and issubclass(op.response_model, Tagged)
    }
    for op in known:
        if issubclass(op.request_model, OnlyIf):
            assert op.path in tagged, op.operation_id


def test_everything_in_an_address_has_a_bound() -> None:
    """What has none is a way to fill logs and memory. Tags are read as a whole line of HTTP."""
    document = build("all", "1", operations())
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            for parameter in described["parameters"]:
                if parameter["name"] != "If-None-Match":
                    assert is_bounded(parameter["schema"]), (method, path, parameter["name"])


def is_bounded(schema: dict[str, Any]) -> bool:
    if "anyOf" in schema:
        return all(map(is_bounded, schema["anyOf"]))
    if schema.get("type") == "string":
        return bool({"maxLength", "pattern", "enum", "format", "const"} & schema.keys())
    return schema.get("type") != "integer" or "maximum" in schema

"""
OpenAPI 3.1 from the same models that check the requests. 3.1 speaks the JSON Schema dialect that
pydantic writes, so there is nothing to translate.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from shared.errors import (
    ContractError,
    Forbidden,
    MeshError,
    Stale,
    Throttled,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from shared.http.auth import ANY_SCOPE, KEY_PARAMETER, Scope
from shared.http.forms import kinds_taken
from shared.http.openapi_choice import (
    NOT_MODIFIED,
    has_not_modified,
    headers_of,
    parameters_of,
    with_chosen,
)
from shared.http.problems import Problem, status_of
from shared.http.routes import Answer, In, InForms, Operation, header_name, input_name, places
from shared.http.tags import OnlyIf
from shared.http.tickets import TICKET_PARAMETER

_REF = "#/components/schemas/{model}"
_CHUNKS_HEADERS = {
    "X-Total-Count": {
        "description": "How much comes, as counted before: for progress. Left out where it is not "
        "known. A body that breaks off is not whole.",
        "schema": {"type": "integer"},
    }
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def build(title: str, version: str, operations: Iterable[Operation[Any]]) -> dict[str, Any]:
    operations = sorted(operations, key=lambda op: (op.path, op.method))
    models: dict[tuple[type[BaseModel], str], None] = {(Problem, "serialization"): None}
    for op in operations:
        if op.answer not in {Answer.RAW, Answer.FILE, Answer.CHUNKS}:
            models[op.response_model, "serialization"] = None
        if body := _body_model(op):
            models[body, "validation"] = None
        if op.hears is not None:
            models[op.hears, "validation"] = None
    refs, schemas = models_json_schema(list(models), ref_template=_REF)  # type: ignore[arg-type]  # mode is one of two literals
    components = schemas["$defs"]
    paths: dict[str, Any] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op, refs, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in sorted({op.tag for op in operations})],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "query": {"type": "apiKey", "in": "query", "name": KEY_PARAMETER},
                "ticket": {"type": "apiKey", "in": "query", "name": TICKET_PARAMETER},
            },
        },
    }


def _body_model(op: Operation[Any]) -> type[BaseModel] | None:
    for name, place in places(op.request_model).items():
        annotation = op.request_model.model_fields[name].annotation
        if place is In.BODY and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def _is_raw(op: Operation[Any]) -> bool:
    where = places(op.request_model).values()
    return In.REQUEST in where and In.BODY not in where


def _takes_any_body(op: Operation[Any]) -> bool:
    return _is_raw(op) and op.method not in {"GET", "HEAD"}


def _operation(
    op: Operation[Any], refs: Mapping[Any, Any], components: dict[str, Any]
) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(op.handler) or "").partition("\n\n")
    document: dict[str, Any] = {
        "operationId": op.operation_id,
        "tags": [op.tag],
        "summary": " ".join(summary.split()),
        "parameters": [*_parameters(op), *parameters_of(op)],
        "responses": _responses(op, refs, components),
    }
    if op.scope is not None:
        schemes = ["bearer", "header", *(["query"] if op.key_in_query else [])]
        schemes += ["ticket"] if op.is_live else []
        document["security"] = [{scheme: []} for scheme in schemes]
        description = f"{description}\n\n{_scope_in_words(op.scope)}".strip()
    if description:
        document["description"] = description
    if op.hears is not None:
        # OpenAPI has no words for what goes over a socket once it is open.
        document["x-websocket"] = {
            "sends": refs[op.response_model, "serialization"],
            "hears": refs[op.hears, "validation"],
        }
    if _takes_any_body(op):
        document["requestBody"] = {"content": {"*/*": {}}}
    elif body := _body_model(op):
        schema = {"schema": refs[body, "validation"]}
        content = dict.fromkeys(kinds_taken(op), schema)
        document["requestBody"] = {"required": True, "content": content}
    return document


def _scope_in_words(scope: Scope | frozenset[Scope]) -> str:
    if isinstance(scope, Scope):
        return f"Scope of the API key: `{scope}`."
    if scope == ANY_SCOPE:
        return "Any API key may."
    return f"Scope of the API key, one of: {', '.join(f'`{one}`' for one in sorted(scope))}."


def _responses(
    op: Operation[Any], refs: Mapping[Any, Any], components: dict[str, Any]
) -> dict[str, Any]:
    content = _content(op, refs, components)
    responses: dict[str, Any] = {str(op.status): {"description": "Done.", "content": content}}
    if op.answer is Answer.SOCKET:
        responses = {str(op.status): {"description": "The socket is open."}}
    if headers := headers_of(op):
        responses[str(op.status)]["headers"] = headers
    if has_not_modified(op):
        responses["304"] = NOT_MODIFIED
    if op.answer is Answer.CHUNKS:
        responses[str(op.status)]["headers"] = _CHUNKS_HEADERS
    for status, names in sorted(_codes(op).items()):
        responses[str(int(status))] = {
            "description": ", ".join(dict.fromkeys(names)),
            "content": _PROBLEM,
        }
    if op.answer is Answer.FILE:
        responses["206"] = {"description": "The part asked for by Range.", "content": content}
    return responses


def _codes(op: Operation[Any]) -> dict[HTTPStatus, list[str]]:
    """Each status that is an error, and the codes that it may come with."""
    errors: list[type[MeshError]] = [ContractError, *op.errors]
    if op.scope is not None:
        errors += [Unauthenticated, Forbidden, TooMany, Unavailable]
    if op.answer in {Answer.STREAM, Answer.SOCKET, Answer.CHUNKS}:
        errors.append(Throttled)
    if issubclass(op.request_model, OnlyIf):
        errors.append(Stale)
    codes: dict[HTTPStatus, list[str]] = {}
    for error in errors:
        codes.setdefault(status_of(error), []).append(error.code)
    if op.answer is Answer.SOCKET:
        codes[HTTPStatus.UPGRADE_REQUIRED] = ["upgrade_required"]
    if op.answer is Answer.FILE:
        codes[HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE] = ["range_not_satisfiable"]
    if _is_raw(op):
        codes[status_of(ContractError)].remove(ContractError.code)
        codes[HTTPStatus.BAD_REQUEST] = ["unreadable_body"]
    if _takes_any_body(op) or _body_model(op):
        codes[HTTPStatus.BAD_REQUEST] = ["unreadable_body"]
        codes[HTTPStatus.REQUEST_TIMEOUT] = ["request_timeout"]
        codes[HTTPStatus.REQUEST_ENTITY_TOO_LARGE] = ["request_entity_too_large"]
    if _body_model(op):
        codes[HTTPStatus.UNSUPPORTED_MEDIA_TYPE] = ["unsupported_media_type"]
    codes.setdefault(HTTPStatus.UNPROCESSABLE_ENTITY, []).append("invalid_request")
    # An address that is too long does not get as far as any operation.
    codes.setdefault(HTTPStatus.BAD_REQUEST, []).append("bad_request")
    return codes


def _content(
    op: Operation[Any], refs: Mapping[Any, Any], components: dict[str, Any]
) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    if op.answer is Answer.RAW:
        return {op.answer.value: text}
    if op.answer is Answer.FILE:
        return {op.answer.value: {}}
    if op.answer is Answer.CHUNKS:
        return {op.response_model.media: text}  # type: ignore[attr-defined]  # a ByteStream's
    schema = {"schema": with_chosen(refs[op.response_model, "serialization"], op, components)}
    if op.answer is not Answer.TEXT:
        return {op.answer.value: schema}
    as_xml = {"application/xml": text} if issubclass(op.response_model, InForms) else {}
    return {"text/plain": text, "application/json": schema, **as_xml}


def _parameters(op: Operation[Any]) -> Iterator[dict[str, Any]]:
    for name, place in places(op.request_model).items():
        if place in {In.BODY, In.KEY, In.REQUEST}:
            continue
        field = op.request_model.model_fields[name]
        parameter: dict[str, Any] = {
            "name": header_name(name) if place is In.HEADER else input_name(op.request_model, name),
            "in": place.value,
            "required": place is In.PATH or field.is_required(),
            "schema": _inline(TypeAdapter(field.rebuild_annotation()).json_schema()),
        }
        if field.description:
            parameter["description"] = field.description
        yield parameter


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """Parameters are flat: an enum's definition goes in its place, ``null`` means left out."""
    definitions = schema.pop("$defs", {})
    if "$ref" in schema:
        return dict(definitions[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        kept = [_inline({**s, "$defs": definitions}) for s in schema["anyOf"]]
        kept = [s for s in kept if s.get("type") != "null"]
        return kept[0] if len(kept) == 1 else {"anyOf": kept}
    return schema

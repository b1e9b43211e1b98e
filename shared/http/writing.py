"""An operation's answer, written as the client wants it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from shared.errors import ContractError
from shared.http.choice import LONGEST_CHOICE, Choice, cut, read_choice, things_at
from shared.http.forms import form_wanted
from shared.http.routes import Answer, Form, Operation
from shared.http.tags import Tagged, has

FIELDS_PARAMETER = "fields"


def choice_in(operation: Operation[Any], request: web.Request) -> Choice:
    """What of the answer is wanted; nothing at all means everything. Raises: ContractError."""
    text = request.query.get(FIELDS_PARAMETER, "") if operation.fields else ""
    if len(text) > LONGEST_CHOICE:
        raise ContractError(f"query.fields: at most {LONGEST_CHOICE} characters")
    model = operation.response_model
    return read_choice(text, (t for at in operation.fields for t in things_at(model, at)))


def written(
    operation: Operation[Any], answer: Any, request: web.Request, chosen: Choice
) -> web.Response:
    if operation.answer is Answer.TEXT:
        match form_wanted(answer, request.headers.get("Accept", "")):
            case Form.TEXT:
                return web.Response(status=operation.status, text=answer.as_text())
            case Form.XML:
                xml = answer.as_xml()
                return web.Response(
                    status=operation.status, text=xml, content_type="application/xml"
                )
    if operation.answer is Answer.RAW:
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )
    headers = {}
    if isinstance(answer, Tagged) and request.method != "DELETE":
        headers["ETag"] = f'"{answer.tag}"'
        if request.method == "GET" and has(request.headers.get("If-None-Match", ""), answer.tag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(
        status=operation.status,
        body=_json(answer, operation, chosen),
        content_type="application/json",
        headers=headers,
    )


def _json(answer: Any, operation: Operation[Any], chosen: Choice) -> str | bytes:
    whole: str = answer.model_dump_json(exclude_none=True)
    return orjson.dumps(cut(orjson.loads(whole), operation.fields, chosen)) if chosen else whole

"""A request of a template and its variables → what goes out. Escaping follows the place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from yarl import URL

from shared.crm.form.requests import Request
from shared.crm.language.contexts import SEARCH_ESCAPES, form_value, header_value, query_value
from shared.crm.language.evaluate import MOST_STEPS, within_steps
from shared.crm.language.functions import plain_text
from shared.crm.language.jsonbody import fill, fill_json_text
from shared.crm.language.jsontext import write_json
from shared.crm.language.text import compile_text
from shared.crm.language.url import compile_url
from shared.crm.language.values import escaped
from shared.errors import ContractError

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Scope:
    """
    What texts may use. *own* are the connection's parameters, credentials and session: an
    administrator's addresses, which may begin a URL as they are. *variables* come from outside
    and are escaped wherever they land.
    """

    own: Mapping[str, Any]
    variables: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, Any] = field(default_factory=dict)

    def having(self, more: Mapping[str, Any]) -> Scope:
        return replace(self, variables={**self.variables, **more})

    @property
    def all(self) -> dict[str, Any]:
        return {**self.own, **self.variables}

    def text(self, source: str) -> str:
        """Raises: ContractError."""
        return compile_text(source).text(self.all, maps=self.maps)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Ready to go; *headers* has the content type of the body."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None


@within_steps(MOST_STEPS)
def render(
    request: Request, scope: Scope, *, merge: tuple[str, Mapping[str, Any]] | None = None
) -> Rendered | None:
    """
    None where the request is not to be sent: its ``when`` or its whole URL comes out as nothing.
    *merge* puts fields into the object at a path of the JSON body. All texts of it together may do
    the work of one.

    Raises: ContractError.
    """
    if request.when is not None and scope.text(request.when).strip() in {"", "false", "0"}:
        return None
    spoken = _spoken(request, scope)
    whole = _url(request, spoken)
    if not whole:
        return None
    headers = {
        name: value
        for name, text in request.headers.items()
        if (value := header_value(spoken.text(text).strip()))
    }
    body, kind = _body(request, spoken, merge)
    if body is not None and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = request.content_type or kind
    url = _read(whole)
    return Rendered(request.method, url, headers, body)


def _read(whole: str) -> URL:
    """Raises: ContractError, which does not say the address: a key may stand in it."""
    try:
        url = URL(whole, encoded=True)
        if url.raw_host and not url.raw_host.isascii():
            url = url.with_host(url.raw_host)
        host = url.host
    except ValueError:
        raise ContractError("the template makes no URL: its host or port is none") from None
    if url.scheme not in {"http", "https"} or not host:
        raise ContractError("the template makes no URL: it needs http:// or https:// and a host")
    return url


def _spoken(request: Request, scope: Scope) -> Scope:
    """Where the request is in a search language, texts of variables are escaped for it."""
    if request.language == "none":
        return scope
    escape = SEARCH_ESCAPES[request.language]
    spoken = {name: escaped(value, escape) for name, value in scope.variables.items()}
    return replace(scope, variables=spoken)


def _url(request: Request, scope: Scope) -> str:
    whole = compile_url(request.url).text(scope.variables, trusted=scope.own, maps=scope.maps)
    pairs = []
    for name, texts in request.query.items():
        for text in (texts,) if isinstance(texts, str) else texts:
            shown_name = query_value(scope.text(name)) if "{{" in name else query_value(name)
            if shown_name:
                pairs += [f"{shown_name}={shown}" for shown in _query_values(text, scope)]
    if not pairs or not whole:
        return whole
    return f"{whole}{'&' if '?' in whole else '?'}{'&'.join(pairs)}"


def _query_values(text: str, scope: Scope) -> list[str]:
    """None for a placeholder without a value; a list is the parameter several times."""
    template = compile_text(text)
    value = template.value(scope.all, maps=scope.maps)
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [query_value(plain_text(item)) for item in value]
    pieces = template.pieces(scope.all, maps=scope.maps)
    return ["".join(query_value(plain_text(piece.value)) for piece in pieces)]


def _body(
    request: Request, scope: Scope, merge: tuple[str, Mapping[str, Any]] | None
) -> tuple[bytes | None, str]:
    if request.json_body is not None:
        filled = fill(request.json_body, scope.all, maps=scope.maps)
        return _json_body(filled, scope, merge), _JSON
    if request.json_text is not None:
        filled = fill_json_text(request.json_text, scope.all, maps=scope.maps)
        return _json_body(filled, scope, merge), _JSON
    if request.form is not None:
        return _form(request.form, scope, merge), _FORM
    if request.body is not None:
        return scope.text(request.body).encode(), "text/plain; charset=utf-8"
    return None, ""


def _json_body(filled: Any, scope: Scope, merge: tuple[str, Mapping[str, Any]] | None) -> bytes:
    if merge is not None:
        path, extra = merge
        _object_at(filled, path).update(fill(dict(extra), scope.all, maps=scope.maps) or {})
    try:
        return orjson.dumps(filled)
    except TypeError:
        # Numbers longer than 64 bits, or with their own spelling.
        return write_json(filled).encode()


def _form(
    fields: Mapping[str, Any], scope: Scope, merge: tuple[str, Mapping[str, Any]] | None
) -> bytes:
    """
    A field that is a structure is JSON in a form field. *merge* goes into the field that its path
    begins with, or makes fields of its own where it has none.
    """
    pairs = []
    if merge is not None:
        if not merge[0]:
            fields, merge = {**fields, **merge[1]}, None
        elif isinstance(fields.get(merge[0].partition(".")[0], ""), str):
            raise ContractError(f"the template's form has no object at {merge[0]}")
    for name, shape in fields.items():
        if isinstance(shape, str):
            filled = compile_text(shape).value(scope.all, maps=scope.maps)
        else:
            filled = fill(shape, scope.all, maps=scope.maps)
            if merge is not None and merge[0].partition(".")[0] == name:
                inner = merge[0].partition(".")[2]
                more = fill(dict(merge[1]), scope.all, maps=scope.maps) or {}
                _object_at(filled, inner).update(more)
        if filled is None:
            continue
        shown = write_json(filled) if isinstance(filled, dict | list) else plain_text(filled)
        pairs.append(f"{query_value(name)}={form_value(shown)}")
    return "&".join(pairs).encode()


def _object_at(body: Any, path: str) -> dict[str, Any]:
    found = body
    for name in path.split(".") if path else ():
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (KeyError, IndexError, ValueError, TypeError):
            found = None
    if not isinstance(found, dict):
        raise ContractError(f"the template's body has no object at {path or 'its top'}")
    return found

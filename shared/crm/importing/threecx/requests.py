"""``<Request>`` → a request of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from shared.crm.importing.naming import HEADER_NAME
from shared.crm.importing.threecx.bodies import Texts, form, keep, pairs, structure
from shared.crm.importing.threecx.scenarios import Scenario
from shared.crm.importing.threecx.tree import Join, Literal, Node
from shared.crm.importing.threecx.words import Words
from shared.crm.importing.threecx.writing import bare, own_words
from shared.errors import ContractError

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_SECRET_HEADER = re.compile(r"authorization|key|token|secret", re.IGNORECASE)
_QUOTES = re.compile(r'\\.|"', re.DOTALL)


def request_of(
    scenario: Scenario,
    words: Words,
    *,
    texts: Texts = keep,
    when: Iterable[str] = (),
) -> dict[str, Any]:
    """*when*: further conditions of the template, as operands."""
    element, made = scenario.request, dict[str, Any]()
    method = element.get("RequestType").upper() or "GET"
    if method not in _METHODS:
        words.notes.changed(scenario.at("Request@RequestType"), f"{method[:20]} became POST")
        method = "POST"
    if method != "GET":
        made["method"] = method
    made["url"] = words.at(scenario.at("Request@Url")).of_text(element.get("Url"))
    query = pairs(element.first("QueryParams"), words.at(scenario.at("Request/QueryParams")))
    if query:
        made["query"] = query
    made |= _headers(scenario, words)
    made |= _body(scenario, words, texts)
    made |= _when(scenario, words, when)
    return made


def skipped(scenario: Scenario, words: Words) -> str | None:
    """When the request is sent: the opposite of ``SkipIf``."""
    at = words.at(scenario.at("Request@SkipIf"))
    return at.of_condition(scenario.request.get("SkipIf"), negated=True)


def _when(scenario: Scenario, words: Words, more: Iterable[str]) -> dict[str, str]:
    own = skipped(scenario, words)
    conditions = list(dict.fromkeys([*more, *([own] if own is not None else [])]))
    conditions = [condition for condition in conditions if condition != "true"]
    if not conditions:
        return {}
    whole = f"(and {' '.join(conditions)})" if len(conditions) > 1 else conditions[0]
    return {"when": f"{{{{{bare(whole)}}}}}"}


def _headers(scenario: Scenario, words: Words) -> dict[str, Any]:
    at = words.at(scenario.at("Request/Headers"))
    found: dict[str, str] = {}
    kind: dict[str, str] = {}
    for name, text in pairs(scenario.request.first("Headers"), at).items():
        if not HEADER_NAME.fullmatch(name):
            words.notes.left(at.place, f"{name[:40]!r} is no name of a header")
        elif name.lower() == "content-type" and "{{" not in text:
            kind["content_type"] = text
        else:
            if "{{" not in text and _SECRET_HEADER.search(name):
                words.notes.changed(
                    at.place, f"{name}: a secret in a template; make it a credential"
                )
            found[name] = text
    wanted = scenario.request.get("RequestContentType")
    if wanted and "[" not in wanted:
        kind["content_type"] = wanted
    return {**({"headers": found} if found else {}), **kind}


def _body(scenario: Scenario, words: Words, texts: Texts) -> dict[str, Any]:
    element = scenario.request
    is_json = element.get("RequestEncoding").lower() == "json"
    values = element.first("PostValues")
    if values is not None and values.children:
        at = words.at(scenario.at("Request/PostValues"))
        if is_json:
            return {"json": structure(values, at, texts)}
        return {"form": form(values, at, texts)}
    source = element.attributes.get("Message", "")
    if not source.strip():
        return {}
    at = words.at(scenario.at("Request@Message"))
    node = at.read(source)
    if node is None:
        return {}
    kind = element.get("RequestContentType").lower()
    if is_json or "json" in kind:
        return {"json_text": _json_text(node, at)}
    if "xml" in kind or source.lstrip().startswith("<"):
        made = replace(at, pipe="html").of_node(node)
        return {"body": made, **({} if kind else {"content_type": "text/xml; charset=utf-8"})}
    made = replace(at, pipe="UrlEncode").of_node(node)
    return {"body": made, **({} if kind else {"content_type": "application/x-www-form-urlencoded"})}


def _json_text(node: Node, words: Words) -> str:
    """A value outside of quotes is a number there; in quotes the engine escapes it."""
    in_text, made = False, ""
    outside = replace(words, pipe="nothing | number")
    for part in node.parts if isinstance(node, Join) else (node,):
        if isinstance(part, Literal):
            in_text ^= sum(1 for found in _QUOTES.finditer(part.text) if found[0] == '"') % 2 == 1
            made += own_words(part.text)
            continue
        more = (words if in_text else outside).of_node(part)
        if not in_text:
            words.notes.changed(words.place, "a value outside of quotes is sent as a number")
        # A brace of its own right before a placeholder would be the placeholder's.
        made += f" {more}" if made.endswith("{") else more
    if len(made) > 65_536:  # noqa: PLR2004  the longest text of a template
        raise ContractError("a message is too long")
    return made

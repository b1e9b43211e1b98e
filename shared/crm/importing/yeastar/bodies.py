"""Queries, forms and JSON that hold placeholders: taken apart without touching those."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

from shared.crm.importing.yeastar.words import ACTION, in_words
from shared.crm.language.jsonbody import fill_json_text
from shared.crm.language.lexer import Action, Kind, read_parts
from shared.crm.language.text import compile_text
from shared.errors import ContractError

#: Values of the kinds that a body may meet, to see whether it makes JSON.
_SAMPLES: Mapping[str, Any] = {
    "StartedAt": datetime(2026, 1, 1, tzinfo=UTC),
    "TalkTime": timedelta(seconds=1),
}
#: An action's number between two characters of no script.
_MARK = re.compile("\ue000([0-9]+)\ue001")


def folded(name: str) -> str:
    """Two spellings of one name are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def without_query(url: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """*url* without those of its query's parameters, and what they were."""
    head, mark, query = url.partition("?")
    if not mark or ("{{" in head and head.rfind("{{") > head.rfind("}}")):
        return url, {}
    kept, found = [], {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if folded(unquote_plus(name)) in {folded(one) for one in names}:
            found[unquote_plus(name)] = value
        elif pair:
            kept.append(pair)
    return (f"{head}?{'&'.join(kept)}" if kept else head), found


def form_of(text: str) -> dict[str, Any]:
    """
    ``a=1&b={{UrlEncode .B}}`` as values that are not encoded yet; one that is JSON is a structure,
    so that what is put into it is escaped. Nothing where it is no such text,
    where a name is there twice, and where an action would be cut.
    """
    fields: dict[str, Any] = {}
    for pair in text.strip().split("&"):
        name, mark, value = pair.partition("=")
        try:
            plain = _decoded(value)
        except ContractError:
            return {}
        if not mark or "{{" in name or name in fields:
            return {}
        structure = json_of(plain) if plain.lstrip()[:1] in {"{", "["} else None
        is_one = isinstance(structure, dict | list)
        fields[unquote_plus(name)] = structure if is_one else plain
    return fields


def _decoded(value: str) -> str:
    """Raises: ContractError, also for words that would be an action when they are decoded."""

    def words(text: str) -> str:
        plain = unquote_plus(text)
        if "{{" in plain:
            raise ContractError("encoded braces")
        return plain

    return ACTION.sub(lambda found: _without_encoding(found[0]), in_words(value, words))


def _without_encoding(action: str) -> str:
    part = next(iter(read_parts(action)), None)
    tokens = part.tokens if isinstance(part, Action) else ()
    if len(tokens) < 2 or tokens[0].value != "UrlEncode" or tokens[0].kind is not Kind.WORD:  # noqa: PLR2004  a function and what it takes
        return action
    return f"{{{{{action[tokens[1].at :]}"


def is_json(text: str) -> bool:
    names = compile_text(text).names
    sample = {name: _SAMPLES.get(name, f"sample {name}") for name in names}
    try:
        return isinstance(fill_json_text(text, sample, maps={}), dict | list)
    except ContractError:
        return False


def json_of(text: str) -> Any:
    """The structure of a JSON text whose placeholders stand in strings; None for any other."""
    if "\ue000" in text:
        return None
    actions: list[str] = []

    def marked(found: re.Match[str]) -> str:
        actions.append(found[0])
        return f"\ue000{len(actions) - 1}\ue001"

    try:
        compile_text(text)
        read = fill_json_text(ACTION.sub(marked, text), {}, maps={})
    except ContractError:
        return None
    return _unmarked(read, actions)


def _unmarked(value: Any, actions: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {_unmarked(key, actions): _unmarked(item, actions) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item, actions) for item in value]
    if isinstance(value, str):
        return _MARK.sub(lambda found: actions[int(found[1])], value)
    return value

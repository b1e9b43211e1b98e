"""``<PostValues>``: the tree of values of a request → a structure or the fields of a form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from shared.crm.importing.threecx.meanings import Kind
from shared.crm.importing.threecx.tree import Choose, Compare, Logic, Node, Variable, constant
from shared.crm.importing.threecx.words import Words
from shared.crm.importing.threecx.writing import bare, own_words
from shared.crm.importing.xml import Element
from shared.errors import ContractError

#: A text that stands for the values of one key: the journal's own subject and description.
Texts = Callable[[str, list[Node], str], str]

_KINDS = frozenset({"value", "object", "array"})
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}")
_TYPES = {"integer": "number", "int": "number", "double": "number", "number": "number"}


def keep(key: str, nodes: list[Node], made: str) -> str:
    return made


def structure(element: Element, words: Words, texts: Texts = keep) -> dict[str, Any]:
    """Of ``<PostValues>``, or of an ``<Object>``. A condition stands in the key."""
    found: dict[str, Any] = {}
    for key, group in _grouped(element, words):
        place = _under(words, key, group[0])
        if len(group) > 1 and all(_is_text(child) for child in group):
            _put(found, key, _alternatives(key, group, place, texts), place)
            continue
        for child in group:
            value = _value(child, place, texts)
            if value is None:
                continue
            condition = _condition(child, place)
            name = key if condition is None else f"{{{{if {bare(condition)}}}}}{key}{{{{end}}}}"
            _put(found, name, value, place)
    return found


def form(element: Element, words: Words, texts: Texts = keep) -> dict[str, Any]:
    """Its keys are as they are: a condition makes the value empty."""
    found: dict[str, Any] = {}
    for key, group in _grouped(element, words):
        place = _under(words, key, group[0])
        if all(child.tag == "Value" for child in group):
            made = _alternatives(key, group, place, texts)
        else:
            words.notes.changed(place.place, "a structure in a form is sent as JSON text")
            made = _value(group[-1], place, texts)
        if made is not None:
            found[key] = made
    return found


def pairs(element: Element | None, words: Words) -> dict[str, str]:
    """``<Headers>`` and ``<QueryParams>``."""
    if element is None:
        return {}
    return {
        key: made
        for key, group in _grouped(element, words)
        if (made := _alternatives(key, group, _under(words, key, group[0]), keep)) is not None
    }


def _grouped(element: Element, words: Words) -> Iterator[tuple[str, list[Element]]]:
    groups: dict[str, list[Element]] = {}
    for child in element.children:
        if "[" in child.get("Key") or "{{" in child.get("Key"):
            words.notes.left(words.place, f"the key {child.get('Key')[:60]!r} is no plain name")
        elif child.tag.lower() in _KINDS and child.get("Key"):
            groups.setdefault(child.get("Key"), []).append(child)
    yield from groups.items()


def _under(words: Words, key: str, child: Element) -> Words:
    above = words.place.partition(", line ")[0]
    return words.at(f"{above}/{key[:60]}, line {child.line}")


def _put(found: dict[str, Any], key: str, value: Any, place: Words) -> None:
    if value is None:
        return
    if "{{" not in key and key in found:
        place.notes.changed(place.place, "of two values of one key the last is taken")
    found[key] = value


def _is_text(child: Element) -> bool:
    return child.tag == "Value" and child.get("Type").lower() in {"", "string"}


def _condition(child: Element, words: Words) -> str | None:
    """Of ``If`` and ``SkipIf``: both have to let it through."""
    wanted = words.of_condition(child.get("If"))
    unwanted = words.of_condition(child.get("SkipIf"), negated=True)
    both = [condition for condition in (wanted, unwanted) if condition is not None]
    return f"(and {' '.join(both)})" if len(both) > 1 else next(iter(both), None)


def _alternatives(key: str, group: list[Element], words: Words, texts: Texts) -> str | None:
    """Values of one key, each with its condition → one text. None where nothing can be said."""
    nodes, made, ends = list[Node](), "", ""
    for child in group:
        node = words.read(_text_of(child))
        if node is None:
            continue
        nodes.append(node)
        text = words.of_node(node)
        condition = _condition(child, words)
        if condition is None:
            made += f"{{{{else}}}}{text}" if ends else text
            break
        made += f"{{{{{'else ' if ends else ''}if {bare(condition)}}}}}{text}"
        ends = "{{end}}"
    made += ends
    is_lost = not made and any(constant(node) is None for node in nodes)
    return None if is_lost or not nodes else texts(key, nodes, made)


def _text_of(child: Element) -> str:
    return child.text.strip("\r\n\t ")


def _value(child: Element, words: Words, texts: Texts) -> Any:
    tag = child.tag.lower()
    if tag == "object":
        return structure(child, words, texts)
    if tag == "array":
        return _array(child, words, texts)
    node = words.read(_text_of(child))
    if node is None:
        return None
    return typed(node, child.get("Type").lower(), words, child.get("Key"), texts)


def _array(element: Element, words: Words, texts: Texts) -> list[Any]:
    found = []
    for place, child in enumerate(element.children):
        if child.tag.lower() not in _KINDS:
            continue
        at = _under(words, str(place), child)
        if child.get("If") or child.get("SkipIf"):
            words.notes.changed(at.place, "an item of a list has no condition: it is always sent")
        value = _value(child, at, texts)
        if value is not None:
            found.append(value)
    return found


def typed(node: Node, kind: str, words: Words, key: str, texts: Texts) -> Any:
    """A value in JSON's own type. None where nothing can be said."""
    fixed = constant(node)
    if kind in _TYPES:
        if fixed is not None:
            return _number(fixed, words)
        return _piped(words.of_node(node), f"nothing | {_TYPES[kind]}", words)
    if kind in {"boolean", "bool"}:
        if fixed is not None:
            return fixed.strip().lower() in {"true", "1"}
        return _boolean(node, words)
    if fixed is not None:
        return words.of_node(node)
    made = words.of_node(node)
    if not made:
        return None
    if _is_taken(node, words):
        made = _piped(made, "text", words) or made
    return texts(key, [node], made)


def _number(text: str, words: Words) -> Any:
    plain = text.strip()
    if _WHOLE.fullmatch(plain):
        return int(plain)
    if _DECIMAL.fullmatch(plain):
        return float(plain)
    words.notes.changed(words.place, f"{text[:40]!r} is no number: it is sent as a text")
    return own_words(text)


def _boolean(node: Node, words: Words) -> Any:
    meaning = words.known.find(node.name) if isinstance(node, Variable) else None
    is_switch = meaning is not None and meaning.kind is Kind.SWITCH
    if is_switch or isinstance(node, Choose | Compare | Logic):
        try:
            return f"{{{{{bare(words.condition(node))}}}}}"
        except ContractError as error:
            words.notes.left(words.place, f"{error.message}; write this value by hand")
            return None
    made = words.of_node(node)
    return _piped(made, "nothing | boolean", words)


def _piped(made: str, functions: str, words: Words) -> str | None:
    """A text of one placeholder, through *functions*; other texts stay texts."""
    if not made:
        return None
    if made.startswith("{{") and made.count("{{") == 1 and made.endswith("}}"):
        return f"{made[:-2]} | {functions}}}}}"
    words.notes.changed(words.place, "a text of several parts is sent as a text, not as a number")
    return made


def _is_taken(node: Node, words: Words) -> bool:
    meaning = words.known.find(node.name) if isinstance(node, Variable) else None
    return meaning is not None and meaning.kind is Kind.TAKEN

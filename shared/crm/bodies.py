"""An answer's body → a value: JSON with exact numbers, or XML in the same shape."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, ParseError  # for types; defusedxml does the parsing

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from shared.crm.form.answers import AnswerKind
from shared.crm.language.jsontext import read_json
from shared.errors import ContractError

_DEEPEST = 100


def read_body(kind: AnswerKind, body: bytes) -> Any:
    """None for an empty body. Raises: ContractError."""
    if not body.strip():
        return None
    return read_json(body) if kind is AnswerKind.JSON else read_xml(body)


def read_xml(body: bytes) -> Any:
    """
    An element with children is an object, repeated children are a list, attributes are keys with
    ``@`` in front, text beside them ``#text``; the root's name is the one key at the top.

    Raises: ContractError, also for entities and other traps.
    """
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise ContractError(f"no readable XML: {type(error).__name__}") from None
    return {_name(root): _value(root, 0)}


def _value(element: Element, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ContractError("XML is nested too deep")
    found: dict[str, Any] = {f"@{name}": text for name, text in element.attrib.items()}
    for child in element:
        name, value = _name(child), _value(child, depth + 1)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    text = (element.text or "").strip()
    if not found:
        return text
    if text:
        found["#text"] = text
    return found


def _name(element: Element) -> str:
    """Without its namespace."""
    return str(element.tag).rpartition("}")[2]

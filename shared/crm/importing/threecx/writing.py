"""Pieces of our template language, as an importer writes them."""

from __future__ import annotations

from shared.crm.importing.threecx.meanings import Meaning
from shared.crm.importing.threecx.tree import Compare, Logic, Node, constant

_REVERSED = {"==": "!=", "!=": "==", "<": ">=", ">": "<=", "<=": ">", ">=": "<"}


def quoted(words: str) -> str:
    """A text as our expressions write it."""
    plain = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def own_words(words: str) -> str:
    """Words of a text of ours that begin no placeholder."""
    return words.replace("{{", '{{"{{"}}')


def bare(operand: str) -> str:
    """Without the brackets that it needs among others."""
    return operand[1:-1] if operand.startswith("(") and _closes_last(operand) else operand


def _closes_last(operand: str) -> bool:
    """``(a) (b)`` is not one bracket; texts in quotes may hold brackets."""
    depth, in_text, escaped = 0, False, False
    for at, character in enumerate(operand):
        if in_text:
            in_text = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_text = True
        elif character in "()":
            depth += 1 if character == "(" else -1
            if not depth and at < len(operand) - 1:
                return False
    return True


def is_on(meaning: Meaning) -> str:
    return f'(eq {meaning.operand} "yes")'


def time_of(meaning: Meaning, wanted: str) -> str:
    zone = ' "1"' if meaning.utc else ""
    return f"(TimeFormat {meaning.operand} {quoted(wanted)}{zone})"


def truth_of(node: Node) -> bool | None:
    fixed = constant(node)
    return {"true": True, "false": False}.get(fixed.strip().lower()) if fixed is not None else None


def negated_of(node: Node) -> Node:
    match node:
        case Compare(operator, left, right):
            return Compare(_REVERSED[operator], left, right)
        case Logic("not", (inner,)):
            return inner
        case Logic(operator, parts):
            return Logic("and" if operator == "or" else "or", tuple(map(negated_of, parts)))
    return Logic("not", (node,))


#: Tests of a text and a part of it.
TESTS = {
    "contains": '(or (eq {1} "") (ne (before {0} {1}) {0}))',
    "startswith": "(eq (first {0} (length {1})) {1})",
    "endswith": "(eq (last {0} (length {1})) {1})",
    "equals": "(eq {0} {1})",
}

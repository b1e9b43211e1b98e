"""``IIf([A]=="",[B],[A])``: a value, and what stands for it where it is empty."""

from __future__ import annotations

from shared.crm.importing.threecx.tree import Compare, Logic, Node, constant

#: Of what is empty in 3CX: nothing, and JSON's ``false``.
_EMPTY = frozenset({"", "false"})


def _empty_test(node: Node, wanted: Node, operator: str) -> bool:
    return (
        isinstance(node, Compare)
        and node.operator == operator
        and node.left == wanted
        and (constant(node.right) or "").strip().lower() in _EMPTY
        and constant(node.right) is not None
    )


def is_empty(condition: Node, wanted: Node) -> bool:
    if isinstance(condition, Logic) and condition.operator == "or":
        return all(_empty_test(part, wanted, "==") for part in condition.parts)
    return _empty_test(condition, wanted, "==")


def is_full(condition: Node, wanted: Node) -> bool:
    if isinstance(condition, Logic) and condition.operator == "and":
        return all(_empty_test(part, wanted, "!=") for part in condition.parts)
    return _empty_test(condition, wanted, "!=")


def says_false(condition: Node) -> bool:
    parts = condition.parts if isinstance(condition, Logic) else (condition,)
    return any(
        isinstance(part, Compare) and (constant(part.right) or "").strip().lower() == "false"
        for part in parts
    )

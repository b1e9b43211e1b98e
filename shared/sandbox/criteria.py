"""
Zoho's search criteria, ``((Phone:equals:1)OR(Phone:equals:2))``, read and answered. Pure.

Only what searches for numbers use: tests joined by OR, with backslash escapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import ContractError

#: Zoho's documentation: at most ten criteria in one search.
MAX_TESTS = 10
_JOIN = "OR"


@dataclass(frozen=True, slots=True)
class Test:
    field: str
    value: str
    begins: bool = False

    def holds(self, record: Mapping[str, Any]) -> bool:
        found = record.get(self.field)
        if found is None:
            return False
        return str(found).startswith(self.value) if self.begins else str(found) == self.value


def read_criteria(text: str) -> list[Test]:
    """Raises: ContractError."""
    tests = list(_tests(text.strip()))
    if not tests or len(tests) > MAX_TESTS:
        raise ContractError(f"{len(tests)} criteria; one to {MAX_TESTS} are allowed")
    return tests


def _tests(text: str, depth: int = 0) -> Iterator[Test]:
    """``(group)OR(group)``, a group being a test or groups again."""
    if depth > MAX_TESTS:
        raise ContractError("nested too deep")
    at = 0
    while at < len(text):
        if at and not text.startswith(_JOIN, at):
            raise ContractError(f"OR is missing at {at}")
        at += len(_JOIN) if at else 0
        if at >= len(text) or text[at] != "(":
            raise ContractError(f"( is missing at {at}")
        end = _closing(text, at)
        inside = text[at + 1 : end]
        if inside.startswith("("):
            yield from _tests(inside, depth + 1)
        else:
            yield _test(inside)
        at = end + 1


def _closing(text: str, opening: int) -> int:
    depth, at = 0, opening
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "(":
            depth += 1
        elif text[at] == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ContractError("a parenthesis is not closed")


def _test(text: str) -> Test:
    field, _, rest = text.partition(":")
    operator, colon, value = rest.partition(":")
    if not field or not colon or operator not in {"equals", "starts_with"}:
        raise ContractError(f"not a criterion: {text}")
    plain, at = [], 0
    while at < len(value):
        if value[at] == "\\" and at + 1 < len(value):
            at += 1
        plain.append(value[at])
        at += 1
    return Test(field, "".join(plain), begins=operator == "starts_with")

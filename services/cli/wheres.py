"""``--where 'talk_s > 60'``: a test of a call's field, as a person types it. Pure."""

from __future__ import annotations

import re

from pydantic import JsonValue, ValidationError

from shared.contracts.columns import Column, Kind, Operator
from shared.contracts.history import COLUMNS, CallFilter
from shared.errors import ContractError
from shared.faults import faults_by_path

_SIGNS = sorted((sign for sign in Operator if not sign[0].isalpha()), key=len, reverse=True)
_WORDS = [word for word in Operator if word[0].isalpha()]
_TEST = re.compile(
    rf"\s*(?P<field>\w+)\s*(?:(?P<sign>{'|'.join(map(re.escape, _SIGNS))})"
    rf"|\s(?P<word>{'|'.join(_WORDS)})(?=\s|$))\s*(?P<value>.*)",
    re.DOTALL,
)
_TRUTH = {"true": True, "yes": True, "": True, "false": False, "no": False}
_MANY = frozenset({Operator.IN, Operator.NOT_IN, Operator.HAS})


def as_test(text: str) -> CallFilter:
    """Raises: ContractError."""
    found = _TEST.fullmatch(text)
    if found is None:
        raise ContractError(
            f"--where {text}: say a field, an operator and a value, as in 'talk_s > 60'; "
            f"operators are {', '.join(Operator)}"
        )
    operator = Operator(found["sign"] or found["word"])
    value = found["value"].strip()
    try:
        column = COLUMNS.named(found["field"])
        return CallFilter(
            field=column.name, operator=operator, value=_value(column, operator, value)
        )
    except ValidationError as error:
        faults = "; ".join(what for _, what in faults_by_path(error))
        raise ContractError(f"--where {text}: {faults}") from None
    except ValueError as error:
        raise ContractError(f"--where {text}: {error}") from None


def _value(column: Column, operator: Operator, text: str) -> JsonValue:
    if operator in _MANY:
        return [_single(column, one.strip()) for one in text.split(",")]
    if operator is Operator.IS_NULL:
        return _TRUTH.get(text.lower(), text)
    return _single(column, text)


def _single(column: Column, text: str) -> JsonValue:
    """What is none of the field's kind stays text, and is refused as such."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if column.kind is Kind.FLAG:
        return _TRUTH.get(text.lower(), text)
    if column.kind is Kind.NUMBER:
        try:
            return float(text) if "." in text else int(text)
        except ValueError:
            return text
    return text

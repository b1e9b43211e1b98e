"""Expressions → values. Nothing is run but the allow-listed functions and operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from shared.crm.language.function import Scope
from shared.crm.language.tree import Constant, Expression, Step, Variable
from shared.crm.language.values import bare, number_in, plain_text
from shared.errors import ContractError

#: Of one text. A step is an item or a character that a function sees or makes: a template has no
#: loops, but it may pipe a long text through thousands of functions. A million are some 20 ms.
MOST_STEPS = 10_000_000
#: What is left for all texts that are made together; None where each has its own bound alone.
_LEFT: ContextVar[list[int] | None] = ContextVar("steps_left", default=None)


@contextmanager
def within_steps(most: int) -> Iterator[None]:
    """
    All texts that are made inside share *most* steps: a request may have hundreds of them, and the
    loop waits for the last. Inside of another one that one's steps count.
    """
    token = _LEFT.set(_LEFT.get() or [most])
    try:
        yield
    finally:
        _LEFT.reset(token)


class Evaluator:
    """The work of one rendering, which is bounded, also by :func:`within_steps`."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._steps = 0

    def value(self, expression: Expression) -> Any:
        """Raises: ContractError."""
        if isinstance(expression, Variable):
            return self._scope.variables.get(expression.name)
        if isinstance(expression, Constant):
            return expression.value
        value = self.value(expression.first)
        self._spend(value)
        for step in expression.steps:
            value = self._applied(step, value)
            # Of the last one, too: a short text can make a long one of it, thousands of times.
            self._spend(value)
        return value

    def _applied(self, step: Step, value: Any) -> Any:
        if step.name in {"and", "or"} and step.function is None:
            return self._first_that_decides(step, value)
        arguments = tuple(self.value(argument) for argument in step.arguments)
        for argument in arguments:
            self._spend(argument)
        try:
            if step.function is not None:
                return step.function.call(value, arguments, self._scope)
            return _compared(step.name, bare(value), tuple(map(bare, arguments)))
        except ContractError as error:
            raise ContractError(f"{step.name}: {error.message}") from None

    def _first_that_decides(self, step: Step, value: Any) -> Any:
        """As in Go, the value itself; what comes after it is not looked at."""
        for argument in step.arguments:
            if is_true(value) is (step.name == "or"):
                return value
            value = self.value(argument)
        return value

    def _spend(self, value: Any) -> None:
        cost = 1 + (len(value) if isinstance(value, str | Sequence) else 0)
        self._steps += cost
        left = _LEFT.get()
        if left is not None:
            left[0] -= cost
        if self._steps > MOST_STEPS or (left is not None and left[0] < 0):
            raise ContractError("a template does too much work")


def is_true(value: Any) -> bool:
    """Go's truth: false are nothing, ``""``, 0, false, and what is empty."""
    return bool(value)


def _compared(operator: str, value: Any, others: tuple[Any, ...]) -> bool:
    if operator == "not":
        return not is_true(value)
    if operator == "eq":
        return any(one == other for one, other in (_pair(value, other) for other in others))
    one, other = _pair(value, others[0])
    found: bool = {
        "ne": one != other,
        "lt": one < other,
        "le": one <= other,
        "gt": one > other,
        "ge": one >= other,
    }[operator]
    return found


def _pair(one: Any, other: Any) -> tuple[Any, Any]:
    """Numbers where both look like one, moments where both are, else texts."""
    numbers = number_in(one), number_in(other)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers
    if isinstance(one, datetime) and isinstance(other, datetime):
        naive = one.utcoffset() is None, other.utcoffset() is None
        if naive[0] is naive[1]:
            return one, other
    return plain_text(one), plain_text(other)

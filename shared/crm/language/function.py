"""What a function of the template language is, and what it may take as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.crm.language.values import bare, escape_of, escaped, kind_of, number_in, plain_text
from shared.errors import ContractError

#: Characters of a rendered text, and of whatever a function makes on the way.
MOST_CHARACTERS = 1_000_000
_MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rendering is given. *maps*: by name, pattern → meaning."""

    variables: Mapping[str, Any]
    maps: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """
    *run* has the value, the arguments as *takes* made them, and the scope; it raises ContractError
    and nothing else. *takes* are checked at load time where an argument is a constant. Of them
    *needs* must be there, all where it is None. Nothing in is nothing out, unless it
    *sees_nothing*. What a search language escaped is seen as it was before, and what is made of it
    is escaped again; not where it *keeps_marks*.
    """

    run: Callable[[Any, tuple[Any, ...], Scope], Any]
    takes: tuple[Callable[[Any], Any], ...] = ()
    needs: int | None = None
    sees_nothing: bool = False
    keeps_marks: bool = False

    @property
    def fewest(self) -> int:
        return len(self.takes) if self.needs is None else self.needs

    @property
    def most(self) -> int:
        return len(self.takes)

    def call(self, value: Any, arguments: tuple[Any, ...], scope: Scope) -> Any:
        """Raises: ContractError."""
        if value is None and not self.sees_nothing:
            return None
        escape = None if self.keeps_marks else escape_of((value, *arguments))
        if escape is not None:
            value, arguments = bare(value), tuple(bare(argument) for argument in arguments)
        taken = tuple(take(given) for take, given in zip(self.takes, arguments, strict=False))
        made = self.run(value, taken, scope)
        if escape is not None:
            made = escaped(made, escape)
        if isinstance(made, str):
            refuse_length(len(made))
        return made


# -- arguments ----------------------------------------------------------------------------------


def any_value(value: Any) -> Any:
    return value


def a_text(value: Any) -> str:
    return plain_text(value)


def some_text(value: Any) -> str:
    """Raises ContractError for an empty one; it does not say what it was, which may be a key."""
    text = plain_text(value)
    if not text:
        raise ContractError("an argument is empty")
    return text


def a_count(value: Any) -> int:
    number = number_in(value)
    if not isinstance(number, int) or not 0 <= number <= _MOST_COUNTED:
        raise ContractError(f"a whole number up to {_MOST_COUNTED} is needed, not {kind_of(value)}")
    return number


def a_place(value: Any) -> int:
    """Of an item, from 0; of one from the end it is negative."""
    number = number_in(value)
    return -a_count(-number) if isinstance(number, int) and number < 0 else a_count(value)


def a_flag(value: Any) -> bool:
    """``"1"`` or ``"0"``, as the documented functions have it."""
    text = plain_text(value)
    if text not in {"", "0", "1", "true", "false"}:
        raise ContractError('"1" or "0" is needed')
    return text in {"1", "true"}


# -- making -------------------------------------------------------------------------------------


def of_text(make: Callable[[str], Any]) -> Function:
    """A function of the text of its value, without arguments."""
    return Function(lambda value, _, __: make(plain_text(value)))


def refuse_length(characters: int) -> None:
    """Raises ContractError, before such a text is made where it can be foreseen."""
    if characters > MOST_CHARACTERS:
        raise ContractError(f"a text would have over {MOST_CHARACTERS} characters")

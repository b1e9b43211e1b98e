"""
GJSON's path language (version 1.19) over parsed JSON: ``data.#(Phone=="…")#.Owner.id``.

No text is an error and no evaluation is long: what cannot be read, or costs more than MAX_VISITS,
does not exist. Where GJSON looks at raw text this looks at values: white space is gone, and of a
key that is there twice the last one counts. Stricter than GJSON are comparisons (``Condition``).
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any

from shared.crm.language.gjson_query import escape_literal
from shared.crm.language.gjson_read import read_path
from shared.crm.language.gjson_steps import Key, Steps, run
from shared.crm.language.gjson_values import LOST, MAX_VISITS, MISSING, Budget, Spent
from shared.crm.language.jsontext import SourceFloat, write_json
from shared.errors import ContractError

__all__ = [
    "MAX_LENGTH",
    "MAX_VISITS",
    "MISSING",
    "Path",
    "compile_path",
    "escape_literal",
    "text_form",
]

#: Letters of a path. The longest of the templates that were read has 240.
MAX_LENGTH = 2000
#: Few paths are longer than a line, and a template has about a hundred.
_HELD = 1024


class Path:
    """A path, read once."""

    __slots__ = ("_keys", "_steps", "text")

    def __init__(self, text: str, steps: Steps | None) -> None:
        self.text = text
        self._steps = steps
        self._keys: tuple[tuple[str, int], ...] | None = None
        if steps is not None and all(isinstance(step, Key) for step in steps):
            keys = (step for step in steps if isinstance(step, Key))
            self._keys = tuple((key.name, key.index) for key in keys)

    def __repr__(self) -> str:
        return f"Path({self.text!r})"

    def get(self, value: Any) -> Any:
        """MISSING where nothing is there; a null that is there is None. Raises nothing."""
        if self._keys is None:
            return self._evaluate(value)
        for name, index in self._keys:
            if type(value) is dict:
                value = value.get(name, MISSING)
            elif type(value) is list:
                value = value[index] if 0 <= index < len(value) else MISSING
            elif value is MISSING:
                return MISSING
            else:
                value = Key(name, index).apply(value, _UNLIMITED)
                if value is LOST:
                    return MISSING
        return value

    def _evaluate(self, value: Any) -> Any:
        if self._steps is None:
            return MISSING
        try:
            return run(self._steps, value, Budget())
        except (Spent, ContractError):
            return MISSING


#: A key costs nothing.
_UNLIMITED = Budget()


def compile_path(text: str) -> Path:
    """Raises nothing: a path that cannot be read, or is longer than MAX_LENGTH, finds nothing."""
    return _compiled(text) if len(text) <= MAX_LENGTH else Path(text, None)


@lru_cache(_HELD)
def _compiled(text: str) -> Path:
    return Path(text, read_path(text))


def text_form(value: Any) -> str:
    """
    GJSON's text of a result: a text as it is, ``1.50`` → ``1.5``, ``1e3`` → ``1000``, nothing for
    null and MISSING, JSON for lists and objects. Raises ContractError for what JSON cannot hold.
    """
    if isinstance(value, str):
        return value
    if value is None or value is MISSING:
        return ""
    if isinstance(value, float) and isfinite(value):
        source = value.source if isinstance(value, SourceFloat) else ""
        if source.removeprefix("-").isdigit():
            return source
        text = format(Decimal(float.__repr__(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return write_json(value)

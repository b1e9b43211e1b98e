"""
YAML as people write it, read so that nothing is guessed: every scalar stays text (the usual
loader turns ``0123456`` into 42798 and the country ``NO`` into false), a key that is there twice
is a fault, and each value knows its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from shared.errors import BadSetting

#: Nobody writes deeper; a document that nests for ever is an attack.
_MAX_DEPTH = 40
#: Aliases unfold: nine short lines can mean a thousand million values.
_MAX_VALUES = 200_000
_MAX_BYTES = 4 * 1024 * 1024
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class YamlText:
    value: Any
    _lines: dict[tuple[str | int, ...], int]

    def line_of(self, path: Sequence[str | int]) -> int:
        """The line, from 1, of the value at *path*, or of the nearest that is there."""
        wanted = tuple(path)
        while wanted:
            if wanted in self._lines:
                return self._lines[wanted]
            wanted = wanted[:-1]
        return self._lines.get((), 1)


def read_yaml(text: str, *, typed: bool = False) -> YamlText:
    """
    *typed*: plain ``true``, ``false`` and whole numbers as JSON writes them are what they are; for
    files whose values become JSON.

    Raises: BadSetting, which names line and column.
    """
    if len(text) > _MAX_BYTES:
        raise BadSetting("line 1: the file is over 4 MiB")
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadSetting(f"{where}{error.problem or 'not YAML'}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise BadSetting(f"line {line}, column {column}: {error.reason}") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise BadSetting(f"line 1: not YAML: {error}") from None
    if node is None:
        raise BadSetting("line 1: the file is empty")
    lines: dict[tuple[str | int, ...], int] = {}
    value = _value(node, (), lines, _typed if typed else str)
    return YamlText(value, lines)


def _value(
    node: yaml.Node,
    path: tuple[str | int, ...],
    lines: dict[tuple[str | int, ...], int],
    plain_value: Callable[[str], Any],
) -> Any:
    line = lines[path] = node.start_mark.line + 1
    if len(lines) > _MAX_VALUES:
        raise BadSetting(f"line {line}: more values than any file has; are there aliases?")
    if len(path) > _MAX_DEPTH:
        raise BadSetting(f"line {line}: nested too deep")
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(item, (*path, number), lines, plain_value)
            for number, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadSetting(f"line {key.start_mark.line + 1}: a key is a plain word")
            if key.value in found:
                raise BadSetting(f"line {key.start_mark.line + 1}: {key.value} is there twice")
            found[key.value] = _value(value, (*path, key.value), lines, plain_value)
            # A fault of a value is shown where its key stands.
            lines[*path, key.value] = key.start_mark.line + 1
        return found
    # ``key:`` with nothing behind it, in plain style, means nothing.
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    if not plain:
        return node.value
    return None if node.value in {"", "~", "null"} else plain_value(node.value)


def _typed(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if _WHOLE.fullmatch(text) else text

"""What an import made, what it says about it, and the template as a file for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from shared.crm.form.manifest import Manifest

Level = Literal["taken", "changed", "left"]

_LONGEST_LINE = 100
_LONGEST_LIST = 70
#: What a catalogue shows stands first; the rest is in the order of the form.
_KEYS = tuple(field.alias or name for name, field in Manifest.model_fields.items())


@dataclass(frozen=True, slots=True)
class Note:
    """
    *taken*: it says the same as before; *changed*: look whether it still means the same; *left*:
    it is not in the template, and *what* says what to write by hand. *place* is in the file that
    was imported (or, of an export, in ours). Holds no secret.
    """

    level: Level
    place: str
    what: str


@dataclass(frozen=True, slots=True)
class Imported:
    """*template*: our form as plain data (schema 2), which reads as a Manifest."""

    template: dict[str, Any]
    notes: tuple[Note, ...]


@dataclass(slots=True)
class Notes:
    """Collects; the same is noted once."""

    _found: dict[Note, None] = field(default_factory=dict)

    def taken(self, place: str, what: str) -> None:
        self._found.setdefault(Note("taken", place, what))

    def changed(self, place: str, what: str) -> None:
        self._found.setdefault(Note("changed", place, what))

    def left(self, place: str, what: str) -> None:
        self._found.setdefault(Note("left", place, what))

    @property
    def all(self) -> tuple[Note, ...]:
        return tuple(self._found)


def to_yaml(template: dict[str, Any]) -> str:
    """
    Keys of the top in the form's order, the rest as they stand; no anchors; a long text
    and one of several lines as a block. Reads back to the same data.
    """
    ordered = {name: template[name] for name in _KEYS if name in template}
    ordered |= {name: value for name, value in template.items() if name not in ordered}
    text: str = yaml.dump(
        ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LONGEST_LINE
    )
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text or len(text) > _LONGEST_LINE - 10 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _list(dumper: yaml.SafeDumper, items: list[Any] | tuple[Any, ...]) -> yaml.SequenceNode:
    short = sum(len(str(item)) + 2 for item in items) <= _LONGEST_LIST
    plain = all(isinstance(item, str | int) and "\n" not in str(item) for item in items)
    return dumper.represent_sequence(
        "tag:yaml.org,2002:seq", list(items), flow_style=short and plain
    )


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)

"""
Reading values out of an answer: GJSON's paths, and around them what templates need besides:
alternatives, the spelling of other tools, and one record at a time.

Columns are never read side by side: ``users.#.Email`` drops users without one, and the third email
would be the second user's. A path is split at its list and its rest asked of every record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shared.crm.language.gjson import MAX_LENGTH, MISSING, Path, compile_path
from shared.crm.language.gjson_scan import Scan

#: Letters of all alternatives together.
_MAX_LETTERS = 4 * MAX_LENGTH
_HELD = 1024

_FOREIGN = re.compile(
    r'"(?:[^"\\]|\\.)*+"|\\.|(?<![.|#])\[([0-9]{1,9}|\*)\](?=[].|[,)=!<>%\s]|$)', re.DOTALL
)
_CONDITION = ("#(", "#[")


@dataclass(frozen=True, slots=True)
class _Way:
    """One alternative, and the same in GJSON's spelling where it has another's."""

    plain: Path
    tolerant: Path | None
    asks_record: bool

    def find(self, value: Any) -> Any:
        found = self.plain.get(value)
        if found is MISSING and self.tolerant is not None:
            found = self.tolerant.get(value)
        return found


def at_path(value: Any, path: str) -> Any:
    """
    None where the path leads nowhere; never raises. An empty path is the value itself.

    Of alternatives (``mobile,phone``) the first that is more than null, ``""`` and ``[]``, else the
    first that is there. Where GJSON finds nothing, ``$.data[0].id`` is read as ``data.0.id``.
    """
    if not path:
        return value
    ways = _ways(path)
    if len(ways) != 1:
        return _first(value, ways, is_record=False)
    found = ways[0].find(value)
    return None if found is MISSING else found


def of_record(record: Any, path: str) -> Any:
    """
    As at_path, and an alternative that begins with ``#(`` is a condition on the record itself:
    ``#(active==true).id``.
    """
    return _first(record, _ways(path), is_record=True) if path else record


def list_at(value: Any, path: str) -> list[Any]:
    """The records of an answer: a list is itself, a mapping is one record, all else is none."""
    found = at_path(value, path)
    if isinstance(found, Mapping):
        return [found]
    return list(found) if isinstance(found, (list, tuple)) else []


def is_there(value: Any, path: str) -> bool:
    """Whether the path leads to something, be it null; an empty path always does."""
    return not path or any(way.find(value) is not MISSING for way in _ways(path))


def split_at_first_array(path: str) -> tuple[str, str] | None:
    """
    The path of a list and, for of_record, of what is wanted in each of its elements:
    ``data.#.Owner.id`` → ``("data", "Owner.id")``, ``users.#(active==true)#.id`` →
    ``("users", "#(active==true).id")``. Alternatives have to share their list.

    None where nothing is asked of each element: no array step, a count, a first match, and what
    goes on with the whole list behind a pipe.
    """
    halves = [_split(part) or _split(_tolerant(part)) for part in _alternatives(path)]
    found = [half for half in halves if half is not None]
    if not found or len(found) < len(halves) or len({head for head, _ in found}) > 1:
        return None
    return found[0][0], ",".join(rest for _, rest in found)


def _first(value: Any, ways: tuple[_Way, ...], *, is_record: bool) -> Any:
    first: Any = None
    for way in ways:
        found = way.find([value] if is_record and way.asks_record else value)
        if found is MISSING:
            continue
        if found is not None and found not in ("", []):
            return found
        if first is None:
            first = found
    return first


def _ways(path: str) -> tuple[_Way, ...]:
    return _held_ways(path) if len(path) <= _MAX_LETTERS else ()


@lru_cache(_HELD)
def _held_ways(path: str) -> tuple[_Way, ...]:
    ways = []
    for part in _alternatives(path):
        tolerant = _tolerant(part)
        ways.append(
            _Way(
                compile_path(part),
                compile_path(tolerant) if tolerant != part else None,
                part.startswith(_CONDITION),
            )
        )
    return tuple(ways)


def _alternatives(path: str) -> list[str]:
    """One is left as it is, of more the blanks around them are gone."""
    if "," not in path:
        return [path]
    parts = [path[start:stop] for start, stop in Scan(path).commas(0, len(path))]
    if len(parts) == 1:
        return parts
    return [part for part in (part.strip() for part in parts) if part]


def _tolerant(path: str) -> str:
    """``$.tokens[0].value`` → ``tokens.0.value``, ``$`` → ``@this``."""
    if path == "$":
        return "@this"
    rest = path[1:] if path.startswith(("$.", "$[")) else path
    rest = _FOREIGN.sub(_dotted, rest)
    return rest if rest == path else rest.removeprefix(".")


def _dotted(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    return ".#" if found[1] == "*" else f".{found[1]}"


def _split(path: str) -> tuple[str, str] | None:
    scan = Scan(path)
    at, end = 0, len(path)
    while at < end:
        if path[at] == "#" and path[at + 1 : at + 2] in {".", "(", "["}:
            return _split_here(scan, at)
        if path[at] in "{[@!":
            # A value that the path makes itself has no records.
            return None
        at = _next_name(path, at)
    return None


def _split_here(scan: Scan, at: int) -> tuple[str, str] | None:
    path, end = scan.text, len(scan.text)
    head = path[: max(0, at - 1)]
    if path[at + 1] == ".":
        rest = path[at + 2 :]
        return (head, rest) if rest and scan.pipe(at + 2, end) == end else None
    behind = scan.group_end(at + 1, end)
    if behind < 0 or path[behind : behind + 1] != "#":
        return None
    condition, rest = path[at:behind], path[behind + 1 :]
    if rest and (len(rest) == 1 or rest[0] != "." or scan.pipe(behind + 2, end) < end):
        return None
    return head, condition + rest


def _next_name(path: str, at: int) -> int:
    while at < len(path) and path[at] not in ".|":
        at += 2 if path[at] == "\\" else 1
    return at + 1

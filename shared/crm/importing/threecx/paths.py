"""
Paths of 3CX → GJSON. Theirs are dotted, begin at the root of the answer, and do not say where a
list is: ``data.items.item.id``. So each becomes the readings that it may have, with commas
between; of them one finds something, because only one is the answer's shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

from shared.crm.language.gjson import escape_literal
from shared.errors import ContractError

Names = tuple[str, ...]

#: Names of one path; real ones have up to six.
_MOST_NAMES = 12
#: Readings of one path.
_MOST_READINGS = 12
#: Conditions on one record.
_MOST_TESTS = 5
#: Names of which each may be a list; of longer paths all or none are.
_MOST_LISTS = 4
_PLACE = re.compile(r"\[([0-9]{1,6})\]")
_SPECIAL = re.compile(r"([^A-Za-z0-9_ :$-])")
_UNREADABLE = re.compile(r"[\\\"']|\{\{")
_FLAT = "|@flatten"


def names_of(path: str) -> Names:
    """Raises: ContractError."""
    names = tuple(name.strip() for name in _PLACE.sub(r".\1", path).split(".") if name.strip())
    if len(names) > _MOST_NAMES:
        raise ContractError(f"the path {path[:60]!r} has over {_MOST_NAMES} names")
    if _UNREADABLE.search(path):
        raise ContractError(f"the path {path[:60]!r} has a quote, a backslash or a placeholder")
    return names


def shared_beginning(paths: Iterable[Names]) -> Names:
    """What all of them begin with."""
    found: Names | None = None
    for path in paths:
        if found is None:
            found = path
            continue
        same = 0
        while same < min(len(found), len(path)) and found[same] == path[same]:
            same += 1
        found = found[:same]
    return found or ()


@dataclass(frozen=True, slots=True)
class Condition:
    """What has to be at *names*: anything that is not empty, or *equals*."""

    names: Names
    equals: str | None = None

    @property
    def conditions(self) -> list[str]:
        """Readings, without the brackets: ``label=="work"``."""
        return [
            f"{place}{test}" for place in _inside(self.names, self.tests) for test in self.tests
        ]

    @property
    def tests(self) -> list[str]:
        if self.equals is None:
            return ['!=""']
        if self.equals in {"True", "False"}:
            # As 3CX writes JSON's booleans.
            return [f"=={self.equals.lower()}", f'=="{self.equals}"']
        # Two braces would begin a placeholder of the path.
        text = escape_literal(self.equals).replace("{{", "{\\u007b")
        return [f'=="{text}"']


def _inside(names: Names, tests: Sequence[str]) -> list[str]:
    """In a condition an inner list is asked by a condition of its own."""
    plain = _joined(names)
    if len(names) != 2:  # noqa: PLR2004  an object or list, and a field of it
        return [plain]
    outer, inner = (_escaped(name) for name in names)
    return [plain, *(f"{outer}.#({inner}{test}).{inner}" for test in tests)]


@dataclass(frozen=True, slots=True)
class Paths:
    """*xml*: an element that is there once is no list, and the root may be named or not."""

    xml: bool = False

    def records(self, names: Names) -> str:
        """Where the list of records is, or the only one."""
        return _listed(self._bases(names))

    def value(self, names: Names, *, inner: Sequence[Condition] = (), every: bool = False) -> str:
        """
        Within a record. *inner*: of the list that *names* lead through, the first element (*every*:
        all) for which all of it holds.
        """
        if not inner:
            return _listed(self._plain(names, every=every))
        home = shared_beginning([names[:-1], *(test.names[:-1] for test in inner)])
        tests = [Condition(test.names[len(home) :], test.equals) for test in inner]
        rest = _joined(names[len(home) :])
        found = []
        for condition in _conditions(tests, every=every):
            if not home:
                found.append(f"{condition}.{rest}")
                continue
            for base in self._bases(home, at_root=False):
                found.append(f"{_behind(base, condition)}.{rest}")
                if self.xml:
                    found.append(f"[{base}]|{condition}.{rest}")
        return _listed(found)

    def of_record(self, path: str, tests: Sequence[Condition]) -> str:
        """*path* of those records alone for which all *tests* hold."""
        if not tests:
            return path
        return _listed(
            f"{condition}.{part}" for condition in _conditions(tests) for part in path.split(",")
        )

    def out_of_answer(self, home: Names, path: str, tests: Sequence[Condition]) -> str:
        """*path* of the first record at *home* for which all *tests* hold."""
        found = []
        for base in self._bases(home):
            for part in path.split(","):
                if tests:
                    for condition in _conditions(tests):
                        found.append(f"{_behind(base, condition)}.{part}")
                        if not base.endswith(_FLAT):
                            found.append(f"[{base or '@this'}]|{condition}.{part}")
                else:
                    # What is flattened is a list.
                    if not base.endswith(_FLAT):
                        found.append(f"{base}.{part}" if base else part)
                    found.append(f"{_behind(base, '#')}.{part}|0")
        return _listed(found)

    def _plain(self, names: Names, *, every: bool) -> list[str]:
        found = []
        for lists in _which(len(names) - 1):
            path = _with_lists(names, lists)
            found.append(path if every or not lists else f"{path}|0")
        return found

    def _bases(self, names: Names, *, at_root: bool = True) -> list[str]:
        may_lack_root = self.xml and at_root
        if not names:
            return ["*"] if may_lack_root else [""]
        found = []
        for lists in _which(len(names) - 1):
            path = _with_lists(names, lists)
            found.append(f"{path}{_FLAT}" if lists else path)
        if may_lack_root:
            found += [f"*.{path}" for path in found]
        return found


def _which(places: int) -> list[tuple[int, ...]]:
    """Which of the first *places* names are lists: none, each one, several."""
    if places > _MOST_LISTS:
        return [(), *((place,) for place in range(places))]
    sizes = range(places + 1)
    return [lists for size in sizes for lists in combinations(range(places), size)]


def _with_lists(names: Names, lists: Sequence[int]) -> str:
    parts = []
    for place, name in enumerate(names):
        parts.append(_escaped(name))
        if place in lists:
            parts.append("#")
    return ".".join(parts)


def _conditions(tests: Sequence[Condition], *, every: bool = False) -> list[str]:
    """Each reading of all of them: ``#(a=="x")#|#(b!="")``."""
    wanted = [test.conditions for test in tests[:_MOST_TESTS]]
    readings = islice(product(*wanted), _MOST_READINGS)
    ends = "#" if every else ""
    return ["#|".join(f"#({condition})" for condition in reading) + ends for reading in readings]


def _behind(base: str, step: str) -> str:
    if not base:
        return step
    return f"{base}|{step}" if base.endswith(_FLAT) else f"{base}.{step}"


def _listed(paths: Iterable[str]) -> str:
    return ",".join(list(dict.fromkeys(paths))[:_MOST_READINGS])


def _joined(names: Names) -> str:
    return ".".join(_escaped(name) for name in names)


def _escaped(name: str) -> str:
    return _SPECIAL.sub(r"\\\1", name)

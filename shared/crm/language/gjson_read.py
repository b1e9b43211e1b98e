"""
From the text of a GJSON path to its steps. Every text has steps: GJSON knows no errors, what
cannot be read leads nowhere.

A path is parts with a dot or a pipe between them. At its start, and behind a pipe, a part may be a
modifier, a literal or a multipath; behind a dot only where it can be nothing else.
"""

from __future__ import annotations

import re

from shared.crm.language.gjson_modifiers import NAMES, Dig, modifier_of
from shared.crm.language.gjson_query import condition_of
from shared.crm.language.gjson_scan import Scan
from shared.crm.language.gjson_steps import (
    Count,
    Each,
    Key,
    Lines,
    ListOf,
    Literal,
    Nowhere,
    ObjectOf,
    Query,
    Step,
    Steps,
    WildKey,
)
from shared.crm.language.gjson_values import MISSING, Letter, wild_of
from shared.crm.language.jsontext import read_json
from shared.errors import ContractError

#: Paths within each other: queries, multipaths, ``#.`` behind ``#.``. Real ones have about four.
_MAX_NESTED = 32
#: More digits index no list that was ever read.
_MAX_DIGITS = 9

_SEPARATORS = frozenset(".|")
_NAME_END = re.compile(r"[:.|]")
_KEY_SPECIAL = re.compile(r"[.|\\*?]")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NOT_SIMPLE = re.compile(r"[\x00-\x1f\[\]{}()#|!]")
_WORDS = {"true": True, "false": False, "null": None}


class TooNested(Exception):
    """More than _MAX_NESTED paths within each other."""


def read_path(text: str) -> Steps:
    """Raises nothing; the time is linear in the length but for nesting, which is bounded."""
    try:
        return _Reader(text).path(0, len(text), 0)
    except TooNested:
        return (Nowhere(),)


class _Reader:
    """Places are ``at`` and ``end`` in one text; a method that returns -1 read to the end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._scan = Scan(text)

    def path(self, at: int, end: int, nested: int) -> Steps:
        if nested > _MAX_NESTED:
            raise TooNested
        steps: list[Step] = []
        while at >= 0:
            at = self._start(at, end, steps, nested)
        return tuple(steps)

    def _start(self, at: int, end: int, steps: list[Step], nested: int) -> int:
        """Where the next start is."""
        behind: int | None = None
        if end - at > 1:
            first = self._text[at]
            if first == "@":
                behind = self._modifier(at, end, steps, nested)
            elif first == "!":
                behind = self._literal(at, end, steps)
            elif first in "[{":
                behind = self._multipath(at, end, steps, nested)
            elif self._text.startswith("..", at, end):
                steps.append(Lines())
                at += 2
        if behind is None:
            return self._names(at, end, steps, nested)
        # What stands behind a modifier without a separator is ignored.
        return behind + 1 if behind < end and self._text[behind] in _SEPARATORS else -1

    def _names(self, at: int, end: int, steps: list[Step], nested: int) -> int:
        """Names, indexes and array steps with dots between them."""
        if nested > _MAX_NESTED:
            raise TooNested
        text = self._text
        while True:
            if at < end and text[at] == "#" and (at + 1 == end or text[at + 1] in ".|(["):
                return self._array(at, end, steps, nested)
            letters, stop = self._letters(at, end)
            name = "".join(letter for letter, _ in letters)
            is_last = stop == end
            opens = not is_last and (text[stop] == "|" or self._opens(stop + 1, end))
            if any(letter in "*?" and not is_plain for letter, is_plain in letters):
                inner: list[Step] = []
                again = -1 if is_last else stop + 1
                if not (is_last or opens):
                    again = self._names(stop + 1, end, inner, nested + 1)
                steps.append(WildKey(wild_of(letters), tuple(inner)))
                return again
            steps.append(Key(name, _index(text[at:stop])))
            if is_last or opens:
                return -1 if is_last else stop + 1
            at = stop + 1

    def _letters(self, at: int, end: int) -> tuple[list[Letter], int]:
        """A name up to its separator; behind a backslash every letter is itself."""
        letters: list[Letter] = []
        while at < end:
            found = _KEY_SPECIAL.search(self._text, at, end)
            stop = found.start() if found else end
            letters.extend((letter, True) for letter in self._text[at:stop])
            if found is None or found[0] in _SEPARATORS:
                return letters, stop
            at = stop + 1
            if found[0] != "\\":
                letters.append((found[0], False))
            elif at < end:
                letters.append((self._text[at], True))
                at += 1
        return letters, end

    def _opens(self, at: int, end: int) -> bool:
        """Whether behind a dot stands what cannot be a name."""
        if at >= end:
            return False
        if self._text[at] == "@":
            return self._modifier_name(at, end)[0] in NAMES
        return self._text[at] in "[{"

    def _array(self, at: int, end: int, steps: list[Step], nested: int) -> int:
        """``#``, ``#.…``, ``#(…)`` and ``#(…)#``."""
        sign = self._text[at + 1 : at + 2] if at + 1 < end else ""
        if sign not in {"", "|", "."}:
            return self._query(at + 1, end, steps, nested)
        if sign == ".":
            pipe = self._scan.pipe(at + 2, end)
            steps.append(Each(self.path(at + 2, pipe, nested + 1)))
            return pipe + 1 if pipe < end else -1
        steps.append(Count())
        return at + 2 if sign else -1

    def _query(self, at: int, end: int, steps: list[Step], nested: int) -> int:
        behind = self._scan.group_end(at, end)
        if behind < 0:
            steps.append(Nowhere())
            return -1
        subject, operator, right = self._scan.condition(at + 1, behind - 1)
        start, stop = subject
        takes_all = behind < end and self._text[behind] == "#"
        while behind < end and self._text[behind] not in _SEPARATORS:
            behind += 1
        inner: Steps = ()
        pipe = behind
        if behind < end and self._text[behind] == ".":
            pipe = self._scan.pipe(behind + 1, end)
            inner = self.path(behind + 1, pipe, nested + 1)
        steps.append(
            Query(
                subject=self.path(start, stop, nested + 1) if start < stop else None,
                condition=condition_of(operator, right),
                takes_all=takes_all,
                inner=inner,
            )
        )
        return pipe + 1 if pipe < end else -1

    def _modifier_name(self, at: int, end: int) -> tuple[str, int]:
        found = _NAME_END.search(self._text, at + 1, end)
        stop = found.start() if found else end
        return self._text[at + 1 : stop], stop

    def _modifier(self, at: int, end: int, steps: list[Step], nested: int) -> int | None:
        """Where it ends, None for a name that is no modifier's: then it is a key."""
        name, stop = self._modifier_name(at, end)
        if name not in NAMES:
            return None
        start = stop
        if stop < end and self._text[stop] == ":":
            start = stop + 1
            stop = self._argument_end(start, end)
        if name == "dig":
            steps.append(Dig(self.path(start, stop, nested + 1)))
        else:
            steps.append(modifier_of(name, self._text[start:stop]))
        return stop

    def _argument_end(self, at: int, end: int) -> int:
        if at < end and self._text[at] in '{["':
            behind = self._scan.group_end(at, end)
            return behind if behind > 0 else end
        return self._scan.pipe(at, end)

    def _literal(self, at: int, end: int, steps: list[Step]) -> int | None:
        """``!`` and JSON. None for another word: then it is a key."""
        start = at + 1
        first = self._text[start]
        if first in '{["':
            behind = self._scan.group_end(start, end)
            stop = behind if behind > 0 else end
        elif (number := _NUMBER.match(self._text, start, end)) is not None:
            stop = number.end()
        else:
            stop = min(self._modifier_name(at, end)[1], end)
            word = self._text[start:stop]
            if word not in _WORDS:
                return None
            steps.append(Literal(_WORDS[word]))
            return stop
        try:
            steps.append(Literal(read_json(self._text[start:stop])))
        except ContractError:
            steps.append(Literal(MISSING))
        return stop

    def _multipath(self, at: int, end: int, steps: list[Step], nested: int) -> int | None:
        """``[a,b]`` and ``{a,"name":b}``. None where it does not close: then it is a key."""
        behind = self._scan.group_end(at, end)
        if behind < 0 or (behind < end and self._text[behind] not in _SEPARATORS):
            return None
        members: list[tuple[str, Steps]] = []
        for start, stop in self._scan.commas(at + 1, behind - 1):
            colon = self._colon(start, stop)
            inner = start if colon < 0 else colon + 1
            name = self._member_name(start, colon, stop)
            members.append((name, self.path(inner, stop, nested + 1)))
        if self._text[at] == "{":
            steps.append(ObjectOf(tuple(members)))
        else:
            steps.append(ListOf(tuple(member for _, member in members)))
        return behind

    def _colon(self, at: int, end: int) -> int:
        """Behind a name. One behind a modifier belongs to its argument."""
        start = at
        while at < end:
            letter = self._text[at]
            if letter == ":":
                return at
            if letter == "@" and at > start and self._text[at - 1] in _SEPARATORS:
                return -1
            if letter == "\\":
                at += 1
            elif letter in '"([{':
                behind = self._scan.group_end(at, end)
                at = behind - 1 if behind > 0 else end
            at += 1
        return -1

    def _member_name(self, start: int, colon: int, stop: int) -> str:
        """Its own, else the last name of its path, else ``_``."""
        name = self._text[start:colon] if colon > start else ""
        if name.startswith('"'):
            try:
                return str(read_json(name))
            except ContractError:
                return name
        if name:
            return name
        path = self._text[start if colon < 0 else colon + 1 : stop]
        at = len(path) - 1
        while at >= 0 and not (path[at] in _SEPARATORS and path[at - 1 : at] != "\\"):
            at -= 1
        last = path[at + 1 :]
        return "_" if _NOT_SIMPLE.search(last) else last


def _index(part: str) -> int:
    if not (part.isascii() and part.isdigit() and len(part.lstrip("0")) <= _MAX_DIGITS):
        return -1
    return int(part)

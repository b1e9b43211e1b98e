"""Where things end in the text of a GJSON path: brackets, quotes, conditions, and what is at its top."""

from __future__ import annotations

import re

_BRACKETS = re.compile(r'[\\"()\[\]{}]')
_PIPE_OR_GROUP = re.compile(r'[\\|"(\[{]')
_QUERY_SPECIAL = re.compile(r'[!=<>%\\"(\[{]')
#: What GJSON cuts off on both sides of a comparison.
_BLANKS = "".join(map(chr, range(33)))
_OPENING = frozenset("([{")
#: Behind these (or at the start) a bracket groups; anywhere else it is a letter of a name.
_GROUPS_BEHIND = frozenset(".|#:,")


class Scan:
    """Places in one text. All are found once: a path of nothing but brackets costs no more."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._ends: dict[int, int] = {}

    def group_end(self, at: int, end: int) -> int:
        """Behind the bracket that closes the one at *at*, or behind a quoted text; -1 if none."""
        if at not in self._ends:
            if self.text[at] == '"':
                self._ends[at] = self._quote_end(at)
            else:
                self._match_brackets(at)
        found = self._ends[at]
        return found if 0 <= found <= end else -1

    def pipe(self, at: int, end: int) -> int:
        """The first pipe that is in no group; *end* where there is none."""
        start = at
        while (found := _PIPE_OR_GROUP.search(self.text, at, end)) is not None:
            at = found.start()
            if found[0] == "|":
                return at
            if found[0] == "\\":
                at += 2
                continue
            is_group = at == start or self.text[at - 1] in _GROUPS_BEHIND
            behind = self.group_end(at, end) if is_group else -1
            at = behind if behind > 0 else at + 1
        return end

    def commas(self, at: int, end: int) -> list[tuple[int, int]]:
        """What stands between the commas that are in no group and in no quotes."""
        parts = []
        start = at
        while at < end:
            letter = self.text[at]
            if letter == ",":
                parts.append((start, at))
                start = at + 1
            elif letter == "\\":
                at += 1
            elif letter == '"' or letter in _OPENING:
                behind = self.group_end(at, end)
                at = behind - 1 if behind > 0 else end
            at += 1
        return [*parts, (start, end)]

    def condition(self, at: int, end: int) -> tuple[tuple[int, int], str, str]:
        """Where the left side is, the operator (``=`` for ``==``), the right side."""
        start = at
        while (found := _QUERY_SPECIAL.search(self.text, at, end)) is not None:
            at = found.start()
            if found[0] == "\\":
                at += 2
            elif found[0] in '"([{':
                behind = self.group_end(at, end)
                at = behind if behind > 0 else end
            else:
                break
        else:
            return self._trimmed(start, end), "", ""
        rest = self.text[at:end].strip(_BLANKS)
        size = 2 if rest[:2] in {"!=", "!%", "<=", ">=", "=="} else 1
        operator = "=" if rest[:size] == "==" else rest[:size]
        return self._trimmed(start, at), operator, rest[size:].strip(_BLANKS)

    def _trimmed(self, at: int, end: int) -> tuple[int, int]:
        while at < end and self.text[at] <= " ":
            at += 1
        while at < end and self.text[end - 1] <= " ":
            end -= 1
        return at, end

    def _quote_end(self, at: int) -> int:
        at += 1
        while at < len(self.text):
            if self.text[at] == '"':
                return at + 1
            at += 2 if self.text[at] == "\\" else 1
        return -1

    def _match_brackets(self, at: int) -> None:
        """Up to the end of the bracket at *at*; what does not close by then does not close."""
        waiting: list[int] = []
        while (found := _BRACKETS.search(self.text, at)) is not None:
            at = found.end()
            if found[0] == "\\":
                at += 1
            elif found[0] == '"':
                at = self.group_end(at - 1, len(self.text))
                if at < 0:
                    break
            elif found[0] in _OPENING:
                waiting.append(at - 1)
            else:
                self._ends[waiting.pop()] = at
                if not waiting:
                    return
        self._ends.update(dict.fromkeys(waiting, -1))

"""
Yeastar's names and ours. Texts are rewritten token by token, so that a literal which looks like a
variable stays as it is, and what is a secret in them becomes a credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from shared.crm.form.call_words import YEASTAR
from shared.crm.importing.naming import ParameterNames
from shared.crm.importing.report import Notes
from shared.crm.language.lexer import Action, Kind, Words, read_parts
from shared.crm.language.text import compile_text
from shared.errors import ContractError

Renames = Mapping[str, str]

#: Of the moment's own functions, which take a moment as they take Unix seconds.
_TIME_FUNCTIONS = frozenset({"TimeFormat", "ToMillis"})
START = "StartTimeUnix"
_CONTACT = {"ContactId": ".ContactId", "ContactsId": ".ContactId", "ContactSyncType": ".Module"}
_PHONE = dict.fromkeys(("Phone", "SearchValue", "CallerNumber", "BusinessNumber"), ".Phone")

SEARCH: Renames = MappingProxyType({**_PHONE, "ContactSyncType": ".Module"})
PAGE: Renames = MappingProxyType(
    {**_PHONE, **_CONTACT, "CallerDisplayName": ".ContactName", "Company": ".Company"}
)
CREATE: Renames = MappingProxyType(
    {
        **_PHONE,
        "MobileNumber": ".Phone",
        "FirstName": ".FirstName",
        "LastName": ".LastName",
        "DisplayName": ".DisplayName",
        "CallerDisplayName": ".DisplayName",
        "Company": ".Company",
        "Email": ".Email",
        "Owner": ".Owner",
        "ContactSyncType": ".Module",
    }
)
JOURNAL: Renames = MappingProxyType({name: word.expression for name, word in YEASTAR.items()})
NOTHING: Renames = MappingProxyType({})
#: Same name, other words in it.
_MEANINGS = {
    ".Disposition": "our words are answered, missed, busy, failed and voicemail; where the CRM "
    "wants others, pipe it through a map",
    ".Direction": "our words are inbound, outbound and internal; where the CRM wants others, pipe "
    "it through a map",
    YEASTAR[
        "Time"
    ].expression: "in the connection's time zone; the vendor's form of it is not known",
    YEASTAR[
        "Talk_Duration"
    ].expression: "minutes and seconds; the vendor's form of it is not known",
}

#: What is a secret by its name. A bare ``key`` may be anything, and is one where it looks so.
SECRET = re.compile(
    r"(?:secret|passw(?:or)?d|passphrase|api[_-]?key|token|authorization|cookie)$", re.IGNORECASE
)
_TELLING = r"[\w.-]{0,40}(?:secret|passw(?:or)?d|api[_-]?key|token)"
_IN_QUERY = re.compile(
    rf"(?P<head>(?:^|[?&])(?P<name>{_TELLING}|key)=)(?P<value>[^&#\s]+)", re.IGNORECASE
)
_IN_JSON = re.compile(
    rf'(?P<head>"(?P<name>{_TELLING})"\s*:\s*")(?P<value>[^"\\]+)(?=")', re.IGNORECASE
)
_KEY_LIKE = re.compile(r"[\w.-]{16,}")
#: Of a text that reads as a whole: nothing in it is left open.
ACTION = re.compile(
    r"""
    \{\{ (?: /\*.*?\*/ | "(?:[^"\\]|\\.)*+" | '(?:[^'\\]|\\.)*+' | `[^`]*+` | (?!\}\})[^"'`] )*+ \}\}
    """,
    re.VERBOSE | re.DOTALL,
)


def rewritten(source: str, replace: Callable[[str, Action, int], str]) -> str:
    """
    *replace* gives, for a variable's name, its action and its place among the action's tokens, what
    stands there instead: ``.Name`` or a pipe. Raises: ContractError for what cannot be read.
    """
    parts: list[str] = []
    done = 0
    for part in read_parts(source):
        if isinstance(part, Words):
            continue
        for number, token in enumerate(part.tokens):
            if token.kind is not Kind.VARIABLE:
                continue
            meant = replace(token.value, part, number)
            if len(part.tokens) > 1 and " " in meant:
                meant = f"({meant})"
            parts += (source[done : token.at], meant)
            done = token.at + 1 + len(token.value)
    return "".join([*parts, source[done:]])


def in_words(source: str, change: Callable[[str], str]) -> str:
    """*change* for what the text itself says, not for its actions. Raises: ContractError."""
    compile_text(source)
    parts: list[str] = []
    done = 0
    for found in ACTION.finditer(source):
        parts += (change(source[done : found.start()]), found[0])
        done = found.end()
    return "".join([*parts, change(source[done:])])


class Names:
    """What the texts of one template may name, and what they do name."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        #: Custom fields and what follow-ups take: Yeastar's name → ours.
        self.own: dict[str, str] = {}
        #: Named in a text and given nowhere: they become parameters. And secrets found in texts.
        self.missing: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.used: set[str] = set()
        self._given = ParameterNames()

    def text(
        self, source: str, place: str, renames: Renames, *, also: Renames = NOTHING
    ) -> str | None:
        """*also* wins over *renames*. None, with a note, where it cannot be read."""
        try:
            # The file's own text is at fault by its own lines.
            compile_text(source)
            text = rewritten(
                source,
                lambda name, action, at: self._meant(name, action, at, {**renames, **also}, place),
            )
            compile_text(text)
        except ContractError as error:
            self.notes.left(place, f"a text that cannot be read: {error.message}")
            return None
        return text

    def scrubbed(self, source: str, place: str) -> str:
        """Without the secrets that stand in it as they are: each is a credential now."""

        def hidden(found: re.Match[str]) -> str:
            name, value = found["name"], found["value"]
            if name.lower() == "key" and not _KEY_LIKE.fullmatch(value):
                return found[0]
            return f"{found['head']}{{{{.{self.secret(name, place)}}}}}"

        try:
            return in_words(source, lambda text: _IN_JSON.sub(hidden, _IN_QUERY.sub(hidden, text)))
        except ContractError:
            # It is refused where it is read.
            return source

    def secret(self, raw: str, place: str) -> str:
        """Yeastar's name of a credential in place of a secret that the file holds."""
        self.secrets.setdefault(raw, self.own.get(raw) or self._given.take(raw))
        self.own.setdefault(raw, self.secrets[raw])
        self.notes.left(
            place,
            f"a secret stands in the file; it is not taken: {self.secrets[raw]} is a credential "
            "now. Whoever had the file knows it: make a new one",
        )
        return raw if re.fullmatch(r"[^\W\d]\w*", raw) else self._spelled(raw)

    def field(self, raw: str) -> str:
        """A custom field's name in our spelling."""
        if raw not in self.own:
            self.own[raw] = self._given.take(raw)
        return self.own[raw]

    def _spelled(self, raw: str) -> str:
        self.own[self.own[raw]] = self.own[raw]
        return self.own[raw]

    def _meant(self, name: str, action: Action, at: int, renames: Renames, place: str) -> str:
        if name == START and START in renames and _is_formatted(action, at):
            return ".StartedAt"
        if name in renames:
            return self._renamed(name, renames[name])
        if name in self.own:
            self.used.add(self.own[name])
            return f".{self.own[name]}"
        if name[0].islower():
            if name not in self.missing:
                self.missing[name] = self._given.take(name)
            self.used.add(self.missing[name])
            return f".{self.missing[name]}"
        self.notes.left(place, f"there is no .{name} here; nothing stands in its place")
        return "nil"

    def _renamed(self, name: str, meant: str) -> str:
        said = f"{{{{.{name}}}}} is {{{{{meant}}}}} here"
        if meant in _MEANINGS:
            self.notes.changed("variables", f"{said}: {_MEANINGS[meant]}")
        elif meant != f".{name}":
            self.notes.taken("variables", said)
        return meant


def _is_formatted(action: Action, at: int) -> bool:
    """Whether a time function takes it: ``TimeFormat .X "..."``, ``.X | TimeFormat "..."``."""
    words = [token.value if token.kind is not Kind.CONSTANT else "" for token in action.tokens]
    before = words[at - 1 : at]
    behind = words[at + 1 : at + 3]
    return bool(before and before[0] in _TIME_FUNCTIONS) or (
        behind[:1] == ["|"] and len(behind) > 1 and behind[1] in _TIME_FUNCTIONS
    )

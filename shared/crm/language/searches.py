"""
Escaping for search languages, by the name that a template gives to its own. A value that comes
from a call can never leave the text or the word that it stands in.

What is escaped is marked as a Fragment, and a Fragment is left as it is: twice is once.
"""

from __future__ import annotations

import re

from shared.crm.language.values import Escape, Fragment

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SOQL_CONTROL = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
#: Operators where they stand alone. With a backslash before it, it is a word like others, inside
#: of quotes too.
_LUCENE_WORD = re.compile(r"(?<!\S)(AND|OR|NOT)(?!\S)")
#: Elasticsearch takes ``>5`` for a range, whatever stands before it.
_LUCENE_RANGE = re.compile("[<>]")
#: Operators however they are spelled, and no backslash helps; as words they are too common to be
#: looked for.
_SOSL_WORD = re.compile(r"(?<!\w)(?:and|or|not)(?!\w)", re.IGNORECASE)


def _escape(make: Escape) -> Escape:
    def escape(text: str) -> str:
        return text if isinstance(text, Fragment) else Fragment(make(text), text, escape)

    return escape


def _backslash_before(characters: str) -> Escape:
    special = re.compile(f"([{re.escape(characters)}])")
    return lambda text: special.sub(r"\\\1", text)


def _none(text: str) -> str:
    """For languages whose values travel apart from the query: Espo's, JSON-RPC, GraphQL."""
    return text


def _odata(text: str) -> str:
    return text.replace("'", "''")


def _sql(text: str) -> str:
    """Right whether the server takes a backslash for an escape or not; then it sees two."""
    return _CONTROL.sub("", text).replace("\\", "\\\\").replace("'", "''")


def _soql(text: str) -> str:
    quoted = re.sub(r"""([\\'"])""", r"\\\1", text)
    return _CONTROL.sub(
        lambda found: _SOQL_CONTROL.get(found[0], f"\\u{ord(found[0]):04x}"), quoted
    )


def _sql_like(text: str) -> str:
    """Servers escape a wildcard in many ways; all know the one that stands for one character."""
    return _sql(text.replace("%", "_"))


def _soql_like(text: str) -> str:
    return re.sub("([%_])", r"\\\1", _soql(text))


_lucene_characters = _backslash_before(r'+-=&|!(){}[]^"~*?:\/')
_sosl_characters = _backslash_before("""?&|!{}[]()^~*:\\"'+-""")


def _lucene(text: str) -> str:
    plain = _LUCENE_RANGE.sub(" ", text)
    return _LUCENE_WORD.sub(r"\\\1", _lucene_characters(plain))


def _sosl(text: str) -> str:
    return _sosl_characters(_SOSL_WORD.sub(" ", text))


zoho_criteria = _escape(_backslash_before("\\(),"))

SEARCH_ESCAPES: dict[str, Escape] = {
    "none": _none,
    "espo": _none,
    "zoho": zoho_criteria,
    "zoho_criteria": zoho_criteria,
    "odata": _escape(_odata),
    "sql": _escape(_sql),
    #: For a value in a pattern of LIKE.
    "sql_like": _escape(_sql_like),
    "soql": _escape(_soql),
    "soql_like": _escape(_soql_like),
    "sosl": _escape(_sosl),
    "lucene": _escape(_lucene),
    "jpql": _escape(_odata),
    #: For a "..." phrase.
    "quoted": _escape(_backslash_before('"\\')),
}

"""
The XML of Yeastar templates → elements with their lines. Real files are not always XML: a bare
``&`` in an address is repaired, and a quote inside a value is said to be one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError  # for the type; defusedxml does the parsing
from xml.parsers.expat import errors

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from shared.errors import BadSetting

#: Real files have some ten kilobytes; a logo may have half a megabyte.
LARGEST = 1_000_000
_DEEPEST = 20
#: Expat knows 1.0 alone, and a text has no encoding any more.
_DECLARATION = re.compile(r"<\?xml[ \t\r\n][^<>]{0,200}\?>")
_BARE = re.compile(r"&(?!(?:#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);)")
_KEPT = (("<!--", "-->"), ("<![CDATA[", "]]>"))
_HINTS = {
    errors.codes[errors.XML_ERROR_INVALID_TOKEN]: "not well-formed here, or shortly before: inside "
    "a value a quote is written &quot; and < is written &lt;",
    errors.codes[errors.XML_ERROR_TAG_MISMATCH]: "the tag that ends here is not the one that was "
    "begun last",
    errors.codes[errors.XML_ERROR_NO_ELEMENTS]: "there is nothing in the file",
    errors.codes[errors.XML_ERROR_UNCLOSED_TOKEN]: "a tag or a value that begins here is never "
    "closed",
    errors.codes[errors.XML_ERROR_DUPLICATE_ATTRIBUTE]: "an attribute is there twice",
}


@dataclass(frozen=True, slots=True)
class Element:
    tag: str
    attributes: Mapping[str, str] = field(repr=False)
    line: int
    children: list[Element] = field(default_factory=list, repr=False)

    def get(self, name: str) -> str:
        """Stripped; nothing where the attribute is not there."""
        return self.attributes.get(name, "").strip()

    def all(self, *path: str) -> Iterator[Element]:
        """Those at *path* below it: ``all("Requests", "Request")``."""
        if not path:
            yield self
            return
        for child in self.children:
            if child.tag == path[0]:
                yield from child.all(*path[1:])


@dataclass(frozen=True, slots=True)
class Document:
    """*repaired*: the lines in which a bare ``&`` was taken for ``&amp;``."""

    root: Element
    repaired: tuple[int, ...]


def read_xml(text: str | bytes) -> Document:
    """Raises: BadSetting with line and column."""
    plain = _decoded(text)
    repaired, places = _repaired(_without_declaration(plain))
    reader = _Reader()
    parser = DefusedXMLParser(target=reader, forbid_dtd=True)
    reader.line = lambda: int(parser.parser.CurrentLineNumber)
    try:
        parser.feed(repaired)
        parser.close()
    except ParseError as error:
        line, column = error.position
        column -= sum(4 for at, where in places if at == line and where < column)
        what = _HINTS.get(error.code) or errors.messages.get(error.code, "not XML")
        raise BadSetting(f"line {line}, column {max(0, column) + 1}: {what}") from None
    except DefusedXmlException:
        line = parser.parser.CurrentLineNumber
        raise BadSetting(
            f"line {line}, column {parser.parser.CurrentColumnNumber + 1}: a template has no "
            "DOCTYPE and no entities of its own; take them out"
        ) from None
    return Document(reader.root, tuple(dict.fromkeys(line for line, _ in places)))


def _decoded(text: str | bytes) -> str:
    if len(text) > LARGEST:
        raise BadSetting(f"line 1, column 1: the file is larger than {LARGEST} bytes")
    if isinstance(text, bytes):
        content = text
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            column = error.start - content.rfind(b"\n", 0, error.start)
            raise BadSetting(
                f"line {line}, column {column}: not UTF-8; save the file as UTF-8"
            ) from None
    text = text.removeprefix("\ufeff")
    if (found := re.search("[\ud800-\udfff]", text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise BadSetting(f"line {line}, column 1: half a character (a lone surrogate)")
    return text


def _without_declaration(text: str) -> str:
    """Blanks in its place, so that columns stay."""
    found = _DECLARATION.match(text)
    if found is None:
        return text
    return re.sub(r"[^\r\n]", " ", found[0]) + text[found.end() :]


def _repaired(text: str) -> tuple[str, list[tuple[int, int]]]:
    """And where: lines from 1, columns from 0 of the repaired text."""
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    done, line, line_start, added = 0, 1, 0, 0
    for at in _bare(text):
        breaks = text.count("\n", done, at)
        if breaks:
            line, line_start, added = line + breaks, text.rfind("\n", done, at) + 1, 0
        parts += (text[done:at], "&amp;")
        places.append((line, at - line_start + added))
        added += 4
        done = at + 1
    return "".join([*parts, text[done:]]), places


def _bare(text: str) -> Iterator[int]:
    """Places of ``&`` that begin no entity, but for those in comments and CDATA."""
    at = 0
    for begin, end in _kept(text):
        yield from (found.start() for found in _BARE.finditer(text, at, begin))
        at = end
    yield from (found.start() for found in _BARE.finditer(text, at))


def _kept(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    # Looked for once each until it is passed, so that many of one kind are not many searches.
    next_of = {mark: text.find(mark) for mark, _ in _KEPT}
    while True:
        for mark, place in next_of.items():
            if 0 <= place < at:
                next_of[mark] = text.find(mark, at)
        begins = [(next_of[mark], end) for mark, end in _KEPT if next_of[mark] >= 0]
        if not begins:
            return
        begin, mark = min(begins)
        end = text.find(mark, begin)
        if end < 0:
            return
        yield begin, end
        at = end


class _Reader:
    """What the parser tells → elements. Text between tags means nothing in these files."""

    def __init__(self) -> None:
        self.line: Callable[[], int] = lambda: 0
        self._open: list[Element] = []
        self._root: Element | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise BadSetting(f"line {self.line()}, column 1: nested too deep for a template")
        element = Element(tag.rpartition("}")[2], attributes, self.line())
        if self._open:
            self._open[-1].children.append(element)
        self._root = self._root or element
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def data(self, _: str) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def root(self) -> Element:
        if self._root is None:
            raise BadSetting("line 1, column 1: there is nothing in the file")
        return self._root

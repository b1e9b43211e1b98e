"""
The XML of a PBX vendor's template → elements with their text and lines. Real files are not always
XML: a bare ``&`` in an address is repaired, and a quote inside a value is said to be one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError  # for the type; defusedxml does the parsing
from xml.parsers.expat import errors

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from shared.crm.importing.report import Notes
from shared.errors import BadSetting

#: Real files have some ten kilobytes; a logo may have half a megabyte.
LARGEST = 1_000_000
_DEEPEST = 30
_MOST_ELEMENTS = 20_000
#: By the root of its files.
VENDORS = {"Information": "Yeastar", "Crm": "3CX"}
_HALF = re.compile("[\ud800-\udfff]")
#: Expat knows 1.0 alone, and a text has no encoding any more.
_DECLARATION = re.compile(r"<\?xml[ \t\r\n][^<>]{0,200}\?>")
#: What begins no entity, but for what stands in comments and CDATA.
_BARE = re.compile(
    r"""
    <!--.*?(?:-->|\Z) | <!\[CDATA\[.*?(?:\]\]>|\Z)
    | (?P<bare>&(?!(?:\#[0-9]{1,7}|\#x[0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);))
    """,
    re.DOTALL | re.VERBOSE,
)
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


@dataclass(slots=True)
class Element:
    """*text*: what stands in it outside of its children."""

    tag: str
    attributes: Mapping[str, str] = field(repr=False)
    line: int
    text: str = field(default="", repr=False)
    children: list[Element] = field(default_factory=list, repr=False)

    def get(self, name: str) -> str:
        """Stripped; nothing where the attribute is not there."""
        return self.attributes.get(name, "").strip()

    def all(self, *path: str) -> Iterator[Element]:
        """Those at *path* below it: ``all("Scenarios", "Scenario")``."""
        if not path:
            yield self
            return
        for child in self.children:
            if child.tag == path[0]:
                yield from child.all(*path[1:])

    def first(self, *path: str) -> Element | None:
        return next(self.all(*path), None)

    def words(self) -> Iterator[str]:
        """Every attribute and text of it and of all below it."""
        yield from self.attributes.values()
        yield self.text
        for child in self.children:
            yield from child.words()


@dataclass(frozen=True, slots=True)
class Document:
    """*repaired*: the lines in which a bare ``&`` was taken for ``&amp;``."""

    root: Element
    repaired: tuple[int, ...]


def read_template(content: str | bytes, tag: str, notes: Notes) -> Element:
    """The root, which is *tag*. Raises: BadSetting with line and column."""
    document = read_xml(content)
    for line in document.repaired:
        notes.changed(f"line {line}", "a bare & was read as &amp;; write it so")
    root = document.root
    if root.tag != tag:
        hint = f"; this is a template of {VENDORS[root.tag]}" if root.tag in VENDORS else ""
        what = f"a template of {VENDORS[tag]} begins with <{tag}>, not <{root.tag[:40]}>{hint}"
        raise _fault(root.line, 1, what)
    return root


def read_xml(content: str | bytes) -> Document:
    """Raises: BadSetting with line and column."""
    plain = _decoded(content)
    if (found := _DECLARATION.match(plain)) is not None:
        # Blanks in its place, so that columns stay.
        plain = re.sub(r"[^\r\n]", " ", found[0]) + plain[found.end() :]
    plain, places = _repaired(plain)
    reader = _Reader()
    parser = DefusedXMLParser(target=reader, forbid_dtd=True)
    reader.line = lambda: int(parser.parser.CurrentLineNumber)
    try:
        parser.feed(plain)
        parser.close()
    except ParseError as error:
        line, column = error.position
        column -= sum(4 for at, where in places if at == line and where < column)
        what = _HINTS.get(error.code) or errors.messages.get(error.code, "not XML")
        raise _fault(line, max(0, column) + 1, what) from None
    except DefusedXmlException:
        place = parser.parser
        raise _fault(
            place.CurrentLineNumber,
            place.CurrentColumnNumber + 1,
            "a template has no DOCTYPE and no entities of its own; take them out",
        ) from None
    return Document(reader.root, tuple(dict.fromkeys(line for line, _ in places)))


def _fault(line: int, column: int, what: str) -> BadSetting:
    return BadSetting(f"line {line}, column {column}: {what}")


def _decoded(content: str | bytes) -> str:
    if len(content) > LARGEST:
        raise _fault(1, 1, f"the file is larger than {LARGEST} bytes")
    text = content if isinstance(content, str) else _text_of(content)
    text = text.removeprefix("\ufeff")
    if (found := _HALF.search(text)) is not None:
        raise _fault(*_place(text, found.start()), "half a character (a lone surrogate)")
    return text


def _text_of(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        # A byte a letter, so that the place can be counted.
        place = _place(content.decode("latin-1"), error.start)
        raise _fault(*place, "not UTF-8; save the file as UTF-8") from None


def _place(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _repaired(text: str) -> tuple[str, list[tuple[int, int]]]:
    """And where: lines from 1, columns from 0 of the repaired text."""
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    done, line, line_start, added = 0, 1, 0, 0
    for found in _BARE.finditer(text):
        if found["bare"] is None:
            continue
        at = found.start()
        if breaks := text.count("\n", done, at):
            line, line_start, added = line + breaks, text.rfind("\n", done, at) + 1, 0
        parts += (text[done:at], "&amp;")
        places.append((line, at - line_start + added))
        added += 4
        done = at + 1
    return "".join([*parts, text[done:]]), places


class _Reader:
    """What the parser tells → elements."""

    def __init__(self) -> None:
        self.line: Callable[[], int] = lambda: 0
        self._open: list[Element] = []
        self._root: Element | None = None
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= _DEEPEST or self._count > _MOST_ELEMENTS:
            raise _fault(self.line(), 1, "too large, or nested too deep, for a template")
        plain = {name.rpartition("}")[2]: text for name, text in attributes.items()}
        element = Element(tag.rpartition("}")[2], plain, self.line())
        if self._open:
            self._open[-1].children.append(element)
        self._root = self._root or element
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def data(self, text: str) -> None:
        if self._open:
            self._open[-1].text += text

    def close(self) -> None:
        pass

    @property
    def root(self) -> Element:
        if self._root is None:
            raise _fault(1, 1, "there is nothing in the file")
        return self._root

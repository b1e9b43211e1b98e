"""The XML of 3CX templates → elements with their text and lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError  # for the type; defusedxml does the parsing
from xml.parsers.expat import errors

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from shared.errors import BadSetting

#: Real files have some ten kilobytes.
LARGEST = 1_000_000
_DEEPEST = 30
_MOST_ELEMENTS = 20_000
_HALF = re.compile("[\ud800-\udfff]")
#: The text is decoded already: what it says of its encoding does not matter any more.
_DECLARATION = re.compile(r"<\?xml[ \t\r\n][^<>]{0,200}\?>")


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


def read_xml(text: str | bytes) -> Element:
    """The root. Raises: BadSetting with line and column."""
    plain = _decoded(text)
    found = _DECLARATION.match(plain)
    if found is not None:
        # Blanks in its place, so that columns stay.
        plain = re.sub(r"[^\r\n]", " ", found[0]) + plain[found.end() :]
    reader = _Reader()
    parser = DefusedXMLParser(target=reader, forbid_dtd=True)
    reader.line = lambda: int(parser.parser.CurrentLineNumber)
    try:
        parser.feed(plain)
        parser.close()
    except ParseError as error:
        line, column = error.position
        what = errors.messages.get(error.code, "not XML")
        raise BadSetting(f"line {line}, column {column + 1}: no XML: {what}") from None
    except DefusedXmlException:
        place = parser.parser
        raise BadSetting(
            f"line {place.CurrentLineNumber}, column {place.CurrentColumnNumber + 1}: a template "
            "has no DOCTYPE and no entities of its own; take them out"
        ) from None
    return reader.root


def _decoded(text: str | bytes) -> str:
    if len(text) > LARGEST:
        raise BadSetting(f"line 1, column 1: the file is larger than {LARGEST} bytes")
    if isinstance(text, bytes):
        content = text
        try:
            text = content.decode(
                "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"
            )
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            column = error.start - content.rfind(b"\n", 0, error.start)
            raise BadSetting(
                f"line {line}, column {column}: not UTF-8; save the file as UTF-8"
            ) from None
    text = text.removeprefix("\ufeff")
    if (found := _HALF.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        raise BadSetting(f"line {line}, column {column}: half a character (a lone surrogate)")
    return text


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
            raise BadSetting(f"line {self.line()}, column 1: too large or too deep for a template")
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
            raise BadSetting("line 1, column 1: there is nothing in the file")
        return self._root

"""
A URL with placeholders. Where a value lands is decided by what stands before it: in the path it
is (part of) one segment, behind ``?`` a value of the query, behind ``#`` again a segment. Only a
connection's own parameters may be the address, and no value from outside may touch the host.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import quote

from shared.crm.language.contexts import path_segment, query_value
from shared.crm.language.function import refuse_length
from shared.crm.language.text import Piece, Template, compile_text
from shared.crm.language.values import plain_text
from shared.errors import ContractError

#: ``https://api.exam``, and ``htt``: what follows would still be the host, or lead to it.
_IN_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?::/{0,2}[^/?#]*)?")
_HOST_PART = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE = re.compile(r"[^\x21-\x7e]+")
#: What would begin an escape together with the digits of a value behind it: ``%{{.Phone}}%``.
_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_ENCODED_DOT = re.compile(r"%2e", re.IGNORECASE)


class _Place(Enum):
    START = auto()
    HOST = auto()
    PATH = auto()
    QUERY = auto()
    FRAGMENT = auto()


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A URL, read once."""

    template: Template

    @property
    def source(self) -> str:
        return self.template.source

    @property
    def names(self) -> frozenset[str]:
        return self.template.names

    @property
    def maps_used(self) -> frozenset[str]:
        return self.template.maps_used

    def text(
        self,
        variables: Mapping[str, Any],
        *,
        trusted: Mapping[str, Any],
        maps: Mapping[str, Any] | None = None,
    ) -> str:
        """
        Empty where the template comes out as nothing. *trusted* are the connection's parameters,
        which win over *variables*: at the very start they stand as they are, in a host they may be
        a part of its name, elsewhere they are escaped too.

        Raises ContractError for a value in the host, for a segment of dots, and as a template does.
        """
        writer = _Writer(trusted)
        for piece in self.template.pieces({**variables, **trusted}, maps=maps):
            writer.add(piece)
        return writer.whole()


def compile_url(source: str, *, known: Collection[str] | None = None) -> UrlTemplate:
    """Raises: ContractError, as compile_text does."""
    return UrlTemplate(compile_text(source, known=known))


class _Writer:
    def __init__(self, trusted: Mapping[str, Any]) -> None:
        self._trusted = trusted.keys()
        self._texts: list[str] = []
        self._length = 0
        self._place = _Place.START
        #: What stands since the last slash of a path or fragment, and whether a value is in it.
        self._segment = ""
        self._is_filled = False
        self._head = ""

    def add(self, piece: Piece) -> None:
        text = piece.value if piece.own else plain_text(piece.value)
        if not text:
            return
        if piece.own:
            self._write(_BARE_PERCENT.sub("%25", text))
            return
        is_trusted = bool(piece.names) and piece.names <= self._trusted
        if self._place is _Place.START and is_trusted:
            self._write(str(text))
        elif self._place is _Place.HOST:
            self._write(_part_of_host(text, is_trusted=is_trusted))
        elif self._place is _Place.QUERY:
            self._write(query_value(text))
        else:
            self._is_filled = True
            # Dots are looked at when the segment is whole: two values of one dot are two dots.
            self._write(str(text) if not text.strip(".") else path_segment(text))

    def whole(self) -> str:
        """Raises: ContractError."""
        self._end_segment()
        whole = "".join(self._texts).strip()
        if _CONTROL.search(whole):
            raise ContractError("the URL holds a control character")
        if whole.startswith("//"):
            raise ContractError("the URL needs http:// or https:// before its host")
        found = _IN_HOST.match(whole)
        # A host may have letters of any script; everything else is sent in ASCII.
        head = found[0] if found is not None else ""
        if " " in head:
            raise ContractError("the URL holds a space in its host")
        rest = _UNSAFE.sub(lambda found: quote(found[0], safe=""), whole[len(head) :])
        return head + rest

    def _write(self, text: str) -> None:
        self._length += len(text)
        refuse_length(self._length)
        self._texts.append(text)
        if self._place in {_Place.START, _Place.HOST}:
            text = self._past_host(text)
        if self._place is _Place.PATH:
            text = self._past(text, "?#")
        if self._place is _Place.QUERY and "#" in text:
            self._place, text = _Place.FRAGMENT, text.partition("#")[2]
        if self._place is _Place.FRAGMENT:
            self._past(text, "")

    def _past_host(self, text: str) -> str:
        """What of it is behind the host; the place is found anew by all that was written."""
        self._head = (self._head + text).lstrip()
        if not self._head:
            return ""
        found = _IN_HOST.match(self._head)
        if found is not None and found.end() == len(self._head):
            self._place = _Place.HOST
            return ""
        self._place = _Place.PATH
        return self._head[found.end() :] if found is not None else self._head

    def _past(self, text: str, ends: str) -> str:
        """Follows the segments up to one of *ends*; gives what is behind it."""
        for at, character in enumerate(text):
            if character in ends:
                self._end_segment()
                self._place = _Place.QUERY if character == "?" else _Place.FRAGMENT
                return text[at + 1 :]
            if character == "/":
                self._end_segment()
            else:
                self._segment += character
        return ""

    def _end_segment(self) -> None:
        segment, is_filled = self._segment, self._is_filled
        self._segment, self._is_filled = "", False
        if is_filled and _ENCODED_DOT.sub(".", segment) in {".", ".."}:
            raise ContractError("a segment of a path would be dots alone")


def _part_of_host(text: str, *, is_trusted: bool) -> str:
    if not is_trusted:
        raise ContractError("a value from outside would change the host of the URL")
    if not _HOST_PART.fullmatch(text):
        raise ContractError("a parameter is no part of a host's name")
    return str(text)

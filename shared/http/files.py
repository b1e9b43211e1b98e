"""Files as answers: the whole or the one part that was asked for (RFC 9110, 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, SkipValidation

#: One range: of several, and of what is no range, the whole is given, as one may.
_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FilePart:
    """*length* bytes from *start* on, of *size*."""

    status: HTTPStatus
    start: int
    length: int
    size: int

    @property
    def headers(self) -> dict[str, str]:
        match self.status:
            case HTTPStatus.PARTIAL_CONTENT:
                last = self.start + self.length - 1
                return {"Content-Range": f"bytes {self.start}-{last}/{self.size}"}
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return {"Content-Range": f"bytes */{self.size}"}
        return {}


class FileAnswer(BaseModel):
    """
    A part of an open file, which the server closes. *headers* beside the length and the range,
    Content-Type among them. *tenant*: whose share of the places for files it takes.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    tenant: str
    file: SkipValidation[BinaryIO]
    part: FilePart
    headers: dict[str, str]


def part_of(size: int, *, method: str, headers: Mapping[str, str], etag: str) -> FilePart:
    """What a request with these *headers*, their names in lower case, is given of a file."""
    whole = FilePart(HTTPStatus.OK, 0, size, size)
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    # A range is of what GET gives; a part of another version would not fit what the client has.
    if method != "GET" or found is None or headers.get("if-range", etag).strip() != etag:
        return whole
    first, last = found["first"], found["last"]
    if not first and not last:
        return whole
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if first and last and int(last) < start:
        return whole
    if start >= size:
        return FilePart(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0, size)
    return FilePart(HTTPStatus.PARTIAL_CONTENT, start, end - start + 1, size)

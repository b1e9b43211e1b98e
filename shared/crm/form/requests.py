"""A request of a template, the steps made of requests, and how lists come in pages."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from shared.crm.language.contexts import SEARCH_ESCAPES
from shared.crm.language.text import compile_text

#: A name that a template gives to a value: ``{{.name}}``.
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
#: A path into an answer (GJSON), possibly several with commas between: the first that finds
#: something. It may hold placeholders.
Path = Annotated[str, StringConstraints(max_length=2000)]
#: Text with placeholders.
Text = Annotated[str, StringConstraints(max_length=65_536)]
#: A place in the template and the text that stands there.
Placed = tuple[str, str]


class Strict(BaseModel):
    # A number where a text stands is meant as it is written.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Method(StrEnum):
    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class FilePart(Strict):
    """A file in a multipart body: what is at an address, fetched when it is sent."""

    fetch: Text
    filename: Text = "recording.wav"
    content_type: str = "application/octet-stream"


class Request(Strict):
    """Values are escaped by the place where they stand; at most one kind of body."""

    method: Method = Method.GET
    url: Text
    query: dict[str, Text | tuple[Text, ...]] = Field(default_factory=dict)
    headers: dict[HeaderName, Text] = Field(default_factory=dict)
    json_body: JsonValue = Field(
        default=None, alias="json", description="A structure: types are kept."
    )
    json_text: Text | None = Field(
        default=None, description="JSON as a text with placeholders, as imported templates have it."
    )
    form: dict[str, JsonValue] | None = Field(
        default=None, description="Form fields; one that is a structure is sent as JSON text."
    )
    body: Text | None = Field(default=None, description="A text as it is; set `content_type` too.")
    multipart: dict[str, Text | FilePart] | None = None
    content_type: str | None = None
    language: str = Field(
        default="none",
        description="Search language: how a value is escaped where it stands in a longer text.",
    )
    when: Text | None = Field(
        default=None, description="Only sent where this text comes out as something but false or 0."
    )

    @model_validator(mode="after")
    def is_one_request(self) -> Self:
        bodies = (self.json_body, self.json_text, self.form, self.body, self.multipart)
        if sum(body is not None for body in bodies) > 1:
            raise ValueError("a request has one body: json, json_text, form, body or multipart")
        if self.language not in SEARCH_ESCAPES:
            raise ValueError(f"language is one of {', '.join(SEARCH_ESCAPES)}")
        return self

    @cached_property
    def used(self) -> frozenset[str]:
        """The variables of its texts."""
        texts = (text for _, text in self.texts("") if "{{" in text)
        return frozenset(name for text in texts for name in compile_text(text).names)

    def texts(self, at: str) -> Iterator[Placed]:
        """Every text with its place, which begins with *at*."""
        yield f"{at}.url", self.url
        for kind in ("query", "headers"):
            yield from texts_in(getattr(self, kind), f"{at}.{kind}")
        for kind, value in (
            ("json", self.json_body),
            ("json_text", self.json_text),
            ("form", self.form),
            ("body", self.body),
            ("when", self.when),
        ):
            yield from texts_in(value, f"{at}.{kind}")
        for name, part in (self.multipart or {}).items():
            if isinstance(part, FilePart):
                yield f"{at}.multipart.{name}.fetch", part.fetch
                yield f"{at}.multipart.{name}.filename", part.filename
            else:
                yield f"{at}.multipart.{name}", part


class Step(Strict):
    """
    One request of several: *compute* makes values before it, *take* takes values out of its
    answer. Both are variables of all that follows.
    """

    compute: dict[VariableName, Text] = Field(default_factory=dict)
    request: Request | None = None
    take: dict[VariableName, Path] = Field(default_factory=dict)

    @property
    def makes(self) -> frozenset[str]:
        return frozenset({*self.compute, *self.take})

    def texts(self, at: str) -> Iterator[Placed]:
        yield from texts_in(self.compute, f"{at}.compute")
        if self.request is not None:
            yield from self.request.texts(f"{at}.request")
        yield from texts_in(self.take, f"{at}.take")


class PageKind(StrEnum):
    #: ``Page`` counts from ``start``.
    PAGE = "page"
    #: ``Offset`` grows by ``size`` from ``start``.
    OFFSET = "offset"
    #: ``Cursor`` is what ``cursor`` finds in the answer before; nothing in the first request.
    CURSOR = "cursor"
    #: The address of the next page is at ``link`` in the answer, absolute or relative.
    NEXT_LINK = "next_link"
    #: It is in the answer's header ``Link`` with rel="next" (RFC 8288).
    LINK_HEADER = "link_header"


#: Requests for one list: Yeastar's limit, and a CRM that always says there is more must end.
MOST_PAGES = 100


class Pages(Strict):
    """
    How a list comes in pages. It ends with an empty page, and where the answer says so: by
    ``more``, by ``total``, by fewer records than ``size``, by no cursor or link.
    """

    kind: PageKind
    start: int = Field(default=1, ge=0)
    size: int = Field(default=100, ge=1, le=10_000, description="``Limit`` in the request.")
    cursor: Path | None = None
    end: tuple[str, ...] = Field(default=(), description="Cursors that mean the end, such as -1.")
    link: Path | None = None
    more: Path | None = Field(default=None, description="Path to whether there is more.")
    total: Path | None = Field(default=None, description="Path to the number of all records.")
    total_header: HeaderName | None = None
    full_pages: bool = Field(
        default=True, description="A page with fewer than ``size`` records is the last."
    )
    most: int = Field(default=MOST_PAGES, ge=1, le=MOST_PAGES)

    @model_validator(mode="after")
    def has_what_its_kind_needs(self) -> Self:
        if self.kind is PageKind.CURSOR and self.cursor is None:
            raise ValueError("kind cursor needs `cursor`: the path to the next one")
        if self.kind is PageKind.NEXT_LINK and self.link is None:
            raise ValueError("kind next_link needs `link`: the path to the next page's address")
        return self


PAGE_VARIABLES = frozenset({"Page", "Offset", "Limit", "Cursor"})


def texts_in(value: Any, at: str) -> Iterator[Placed]:
    """Every text of a structure with its place; keys are texts too."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for name, item in value.items():
            if "{{" in name:
                yield f"{at}.{name}", name
            yield from texts_in(item, f"{at}.{name}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from texts_in(item, f"{at}.{place}")

"""
ETags: that nobody changes what he has not seen. An answer that is one thing, which can be changed,
carries the tag of what it is; a change can be bound to a tag, and is refused with 412 when the thing
is another by then.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import orjson
from pydantic import BaseModel, Field, JsonValue, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from shared.errors import Stale
from shared.http.routes import FromHeader

_TAG = re.compile(r'(?:W/)?"([^"]*)"')

#: A header with tags; those in another form are none that we gave.
Tags = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[\x20-\x7e]*$")]


class Tagged(BaseModel):
    """An answer that is one thing, which can be changed. *tag* is no part of what is answered."""

    #: Letters and digits: what the thing is at, another after each change of it.
    tag: SkipJsonSchema[str] = Field(exclude=True, repr=False)


class OnlyIf(BaseModel):
    """Part of a request that changes something: what that has to be."""

    if_match: FromHeader[Tags | None] = Field(
        default=None,
        description='`"TAG"`, as the header ETag said it: only if it is that still; `*`: only if it '
        "is there. Else 412 `stale`.",
        examples=['"5f3a9c"'],
    )
    if_none_match: FromHeader[Tags | None] = Field(
        default=None, description="`*`: only if it is not there yet. Else 412 `stale`."
    )

    def check(self, tag: str | None) -> None:
        """*tag*: of what there is; None: nothing. Raises: Stale."""
        if self.if_match is not None and not has(self.if_match, tag):
            raise Stale(
                "It is not there, so it cannot be what If-Match says."
                if tag is None
                else "Somebody changed it meanwhile: read it again, look whether your change still "
                "makes sense, and send it with the new ETag in If-Match."
            )
        if self.if_none_match is not None and has(self.if_none_match, tag):
            raise Stale("It is there already; to change it, leave out If-None-Match.")


def has(header: str, tag: str | None) -> bool:
    """
    Whether *tag* is among the tags of *header*. Weak ones count: a proxy that compresses answers
    makes ours weak, and they still say the same.
    """
    if header.strip() == "*":
        return tag is not None
    said = _TAG.findall(header) or [header.strip()]
    return tag is not None and tag in said


def tag_of(*parts: JsonValue) -> str:
    """Of what a thing consists of. Sealed secrets may be among it: nothing is learned of them."""
    text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:24]

"""What is to be asked of a CRM, what was sent, what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from yarl import URL

from shared.contracts.journal import Exchange
from shared.crm.engine.together import Part
from shared.crm.form.answers import Meaning
from shared.crm.form.journal import Batch
from shared.crm.form.manifest import Event
from shared.crm.form.requests import Request
from shared.crm.port import Priority
from shared.crm.rendering import Rendered, Scope
from shared.errors import MeshError
from shared.net.client import Answer

Error = TypeVar("Error", bound=MeshError)


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A success; *nothing* where it says that there is nobody, *blank* where it has no body. *shown*
    makes what an error shows of it, *said* what one may say of a text in it.
    """

    status: int
    headers: Mapping[str, str]
    value: Any
    nothing: bool
    blank: bool
    url: URL
    shown: Callable[[], Exchange | None] = field(repr=False)
    said: Callable[[str], str] = field(repr=False)

    def showing(self, error: Error) -> Error:
        """*error*, which this answer comes to after all, with its ``exchange``."""
        error.details["exchange"] = self.shown()
        return error


@dataclass(slots=True)
class Last:
    """What was sent last, for who has to say what did not go well; *scope*: it was filled from."""

    sent: Rendered | None = None
    answer: Answer | None = None
    scope: Scope | None = None
    #: Of a request that was joined from several.
    parts: tuple[Rendered, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """
    What is to be asked, and how; *after*: of a follow-up request, what it follows. With a *batch*
    the request is joined from its *parts*.
    """

    request: Request
    within: timedelta
    priority: Priority
    variables: Mapping[str, Any] = field(default_factory=dict)
    searching: bool = False
    merge: tuple[str, Mapping[str, Any]] | None = None
    address: URL | None = None
    after: Event | None = None
    parts: tuple[Part, ...] = ()
    batch: Batch | None = None
    last: Last = field(default_factory=Last)


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer and what it means; *wait*: how long the CRM wants to be left alone."""

    url: URL
    answer: Answer
    value: Any
    means: Meaning
    wait: timedelta | None

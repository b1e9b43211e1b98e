"""
Error tree of the mesh. Callers decide by class, never by message text.

* MeshError
  x PermanentError        trying again cannot help: dead letter, 4xx
    + ContractError       a payload does not match its contract
    + NotFound
      - Gone              it did exist, and its time is over
    + Conflict            a version moved or a unique key is taken
      - Stale             what a change was bound to is another by now
    + Rejected            the other side understood and said no
    + Unauthenticated     no or unknown credentials (ours were asked for)
    + Forbidden           known, but not allowed
    + BadSetting          a setting or a site file is wrong: says which and what to do
  x TransientError        trying again later may help: retried, 503
    + Unavailable         no connection, a server error
      - OutOfTime         no answer in the time that was given
    + Throttled           asked to slow down; carries ``retry_after``
      - TooMany           it is who asks us that has to slow down
    + NeedsReconnect      a CRM's grant is lost: waits for a person to connect it again
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar


class MeshError(Exception):
    """Base of every error that this project raises on purpose."""

    code: ClassVar[str] = "mesh_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details

    @property
    def message(self) -> str:
        return str(self.args[0])


class PermanentError(MeshError):
    """Trying again cannot help."""

    code = "permanent"


class ContractError(PermanentError):
    """The payload does not match its contract."""

    code = "contract_violation"


class NotFound(PermanentError):
    """The thing asked for does not exist."""

    code = "not_found"


class Gone(NotFound):
    """It was there, and its time is over."""

    code = "gone"


class Conflict(PermanentError):
    """A unique key is taken, or the document changed since it was read."""

    code = "conflict"


class Stale(Conflict):
    """The change was bound to what the thing was, and it is another by now."""

    code = "stale"


class Rejected(PermanentError):
    """The other side understood the request and refused it."""

    code = "rejected"


class Unauthenticated(PermanentError):
    """No credentials, or none that we know."""

    code = "unauthenticated"


class Forbidden(PermanentError):
    """The credentials are known and do not allow this."""

    code = "forbidden"


class BadSetting(PermanentError):
    """A setting or a site file is wrong; the message names it and says what to change."""

    code = "bad_setting"


class TransientError(MeshError):
    """Trying again later may help."""

    code = "transient"

    def __init__(
        self, message: str, *, retry_after: timedelta | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class Unavailable(TransientError):
    """The other side did not answer, or answered with a server error."""

    code = "unavailable"


class OutOfTime(Unavailable):
    """There was no answer in the time that was given; it may still come."""

    code = "out_of_time"


class Throttled(TransientError):
    """The other side asked us to slow down; ``retry_after`` says for how long, where it is known."""

    code = "throttled"


class TooMany(Throttled):
    """Who asks us asks too often; ``retry_after`` says when he may again."""

    code = "too_many_requests"


class NeedsReconnect(TransientError):
    """The CRM no longer honours our grant; a person has to connect it again."""

    code = "needs_reconnect"


def by_code(code: str) -> type[MeshError]:
    """The class that raises *code*; ``MeshError`` for a code of a newer version."""
    return _BY_CODE.get(code, MeshError)


def _all(base: type[MeshError]) -> list[type[MeshError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all(child))]


_BY_CODE = {cls.code: cls for cls in _all(MeshError)}

"""What became of each request that a PBX or a CRM sent by itself, as ``callmesh_hooks_total``."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

from services.gateway.deps import HttpDeps
from shared.errors import MeshError

#: A detail of an error that says which it is, where its class does not.
OUTCOME = "hook_outcome"


class HookOutcome(StrEnum):
    ACCEPTED = "accepted"
    #: Taken, and kept in the store while the broker is away.
    SPOOLED = "spooled"
    #: A signed request that came before, or whose time is not now.
    REPLAYED = "replayed"
    #: No key, token or signature of ours.
    FORGED = "forged"
    OVERSIZED = "oversized"
    UNREADABLE = "unreadable"
    #: From another network than `senders`, or by a key without the scope.
    NOT_ALLOWED = "not_allowed"
    #: No such connection, or one that takes none of these.
    UNKNOWN = "unknown"
    #: Broker and store are away, or we are busy: who sent it sends it again.
    NOT_NOW = "not_now"


_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: HookOutcome.FORGED,
    HTTPStatus.FORBIDDEN: HookOutcome.NOT_ALLOWED,
    HTTPStatus.NOT_FOUND: HookOutcome.UNKNOWN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: HookOutcome.OVERSIZED,
    HTTPStatus.BAD_REQUEST: HookOutcome.UNREADABLE,
    HTTPStatus.REQUEST_TIMEOUT: HookOutcome.UNREADABLE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: HookOutcome.UNREADABLE,
    HTTPStatus.UNPROCESSABLE_ENTITY: HookOutcome.UNREADABLE,
    HTTPStatus.TOO_MANY_REQUESTS: HookOutcome.NOT_NOW,
    HTTPStatus.SERVICE_UNAVAILABLE: HookOutcome.NOT_NOW,
}


def count_taken(deps: HttpDeps, outcome: HookOutcome) -> None:
    deps.metrics.count("callmesh_hooks_total", outcome.value)


def count_refused(deps: HttpDeps, status: HTTPStatus, error: MeshError | None) -> None:
    """For the table of operations: whoever refused it, the server or a handler."""
    details = error.details if error is not None else {}
    late = HookOutcome.REPLAYED if details.get("out_of_time") else None
    outcome = late or details.get(OUTCOME) or _BY_STATUS.get(status)
    if outcome is not None:
        deps.metrics.count("callmesh_hooks_total", HookOutcome(outcome).value)


def count_forged(deps: HttpDeps, status: HTTPStatus, error: MeshError | None) -> None:
    """
    As :func:`count_refused`, of operations whose caller has no key: behind the check of their token
    the handler counts, and why a dial is refused is no matter of hooks.
    """
    # An address with bytes that no text has comes to no handler either.
    by_server = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
    if status in by_server or (error is not None and OUTCOME in error.details):
        count_refused(deps, status, error)

"""What PBXs publish by themselves: whose it is, whether it can be read, and its fate."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from shared.bus import stray
from shared.bus.delivery import Dead, Done, Fate, Retry, code_of, fate_of, text_of
from shared.bus.port import ForeignDoor
from shared.clock import Clock
from shared.contracts.hooks import MAX_HOOK_BYTES
from shared.errors import ContractError, MeshError
from shared.ids import Name, TenantId
from shared.observe import tracing
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

#: In letters, logs and metrics, where else the wire name of a contract stands.
FOREIGN = "pbx.in"
_Address: TypeAdapter[tuple[str, str]] = TypeAdapter(tuple[TenantId, Name])


def address_in(key: str) -> tuple[str, str] | None:
    """Tenant and PBX of a routing key ``TENANT.PBX``; None for any other key."""
    try:
        return _Address.validate_python(tuple(key.split(".")))
    except ValidationError:
        return None


async def deliver_foreign(
    body: bytes,
    door: ForeignDoor,
    *,
    key: str,
    content_type: str,
    received_at: datetime,
    attempt: int,
    failing_since: datetime | None,
    metrics: Metrics,
    clock: Clock,
) -> Fate:
    """As ``deliver``: raises nothing that the handler raised."""
    say = log.bind(service=door.service, message_type=FOREIGN, key=key[:128], attempt=attempt)
    try:
        tenant, pbx = _checked(body, key)
        with (
            stray.as_error(RuntimeError, "what the handler waited for was cancelled"),
            structlog.contextvars.bound_contextvars(
                service=door.service, tenant=tenant, pbx=pbx, message_type=FOREIGN, attempt=attempt
            ),
            tracing.span(f"handle {FOREIGN}", service=door.service),
            metrics.timed("callmesh_handling_seconds", door.service, FOREIGN),
        ):
            await door.handler(tenant, pbx, body, content_type, received_at)
    except Exception as error:  # noqa: BLE001  whatever a handler raises decides only its message
        failing_for = clock.now() - failing_since if failing_since else timedelta(0)
        fate: Fate = fate_of(error, attempt=attempt, failing_for=failing_for, policy=door.retry)
        # A fault of ours comes with its traceback; an error raised on purpose says it all.
        bug = None if isinstance(error, MeshError) else error
        say = say.bind(error=text_of(error), error_code=code_of(error))
        if isinstance(fate, Retry):
            say.warning("message_retried", after_s=fate.after.total_seconds(), exc_info=bug)
        else:
            say.error("message_dead", exc_info=bug)
    else:
        fate = Done()
    metrics.count("callmesh_deliveries_total", door.service, FOREIGN, _OUTCOMES[type(fate)])
    return fate


_OUTCOMES: dict[type[Fate], str] = {Done: "done", Retry: "retried", Dead: "dead"}


def _checked(body: bytes, key: str) -> tuple[str, str]:
    """Whose it is. Raises: ContractError."""
    address = address_in(key)
    if address is None:
        raise ContractError(f"the routing key {key[:128]!r} is not of the form TENANT.PBX")
    if len(body) > MAX_HOOK_BYTES:
        raise ContractError(f"the body has {len(body)} bytes, {MAX_HOOK_BYTES} are allowed")
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ContractError(f"the body is not JSON in UTF-8: {error}") from None
    return address

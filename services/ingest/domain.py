"""Raw hooks → sightings. Pure, so that a hook can be read again years later."""

from __future__ import annotations

from pydantic import ValidationError

from shared.contracts.envelope import Message
from shared.contracts.hooks import HookBatch, HookKind, HookReceived
from shared.errors import ContractError
from shared.faults import faults_in
from shared.pbx.generic.parse import sighting
from shared.pbx.port import Sighting


def sightings_in(message: Message[HookReceived]) -> list[Sighting]:
    """Raises: ContractError."""
    hook = message.body
    if hook.kind is not HookKind.GENERIC:
        raise ContractError(f"hooks of kind {hook.kind} cannot be read")
    try:
        batch = HookBatch.model_validate_json(hook.body)
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None
    return [sighting(event, tenant=message.tenant, pbx=hook.pbx) for event in batch.events]

"""Call events of PBXs without an adapter of their own."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, RootModel, Tag

from services.gateway.deps import HttpDeps
from shared.contracts.hooks import HookBatch, HookEvent, HookKind, HookReceived
from shared.errors import NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, FromPath, Routes
from shared.ids import Name
from shared.site.models import GenericPbx

routes: Routes[HttpDeps] = Routes(tag="mesh")


def _one_or_many(body: Any) -> str:
    return "batch" if isinstance(body, dict) and "events" in body else "event"


class HookBody(RootModel[Any]):
    """One event, or a batch of up to 500 under ``events``."""

    root: Annotated[
        Annotated[HookBatch, Tag("batch")] | Annotated[HookEvent, Tag("event")],
        Discriminator(_one_or_many),
    ]

    @property
    def events(self) -> tuple[HookEvent, ...]:
        return self.root.events if isinstance(self.root, HookBatch) else (self.root,)


class TakeHook(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]
    body: FromBody[HookBody]


class HookReceipt(BaseModel):
    """The events are durable; what follows from them follows."""

    accepted: int


@routes(
    "POST",
    "/v1/hooks/{pbx}",
    scope=Scope.HOOKS_WRITE,
    status=202,
    key_in_query=True,
    errors=(NotFound,),
)
async def take_hook(deps: HttpDeps, asked: TakeHook) -> HookReceipt:
    """Take call events of a generic PBX.

    Answers when they are durable: at the broker, or in the store's spool while the broker is
    away. The same event sent twice counts once, so whoever gets 503 or no answer sends it again.
    """
    tenant = asked.caller.tenant
    site = deps.site.site(tenant)
    if site is None or not isinstance(site.pbx_named(asked.pbx), GenericPbx):
        raise NotFound(f"There is no generic PBX connection {asked.pbx}.")
    events = asked.body.events
    body = HookBatch(events=events).model_dump_json(exclude_none=True)
    hook = HookReceived(pbx=asked.pbx, kind=HookKind.GENERIC, body=body)
    digest = hashlib.sha256(body.encode()).hexdigest()
    message = deps.spool.envelop(hook, tenant=tenant, key=f"{asked.pbx}/{digest}")
    at_broker = await deps.spool.send(message)
    deps.metrics.count("callmesh_hooks_total", "accepted" if at_broker else "spooled")
    return HookReceipt(accepted=len(events))

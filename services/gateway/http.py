"""The public HTTP API: all tables together."""

from __future__ import annotations

from services.gateway.access import audit, keys, me, requests, users
from services.gateway.calls import dialing, entries, history, reading, summaries
from services.gateway.crm import contacts
from services.gateway.deps import HttpDeps
from services.gateway.hooks import clicks, from_crm, from_pbx
from services.gateway.recordings import operations as recordings
from services.gateway.screens import agents
from services.gateway.screens import operations as screens
from services.gateway.setup import (
    connections,
    consent,
    letters,
    own,
    pbxs,
    rules,
    staff,
    telephony,
    template_drafts,
    templates,
    tenants,
)
from services.gateway.subscribers import deliveries
from services.gateway.subscribers import operations as subscribers
from shared.http.routes import Routes

__all__ = ["HttpDeps", "routes"]

routes: Routes[HttpDeps] = Routes(tag="mesh")
for _part in (
    from_pbx,
    tenants,
    own,
    connections,
    templates,
    template_drafts,
    staff,
    letters,
    pbxs,
    rules,
    from_crm,
    clicks,
    dialing,
    agents,
    screens,
    reading,
    history,
    entries,
    summaries,
    recordings,
    contacts,
    consent,
    telephony,
    subscribers,
    deliveries,
    users,
    keys,
    me,
    audit,
    requests,
):
    routes.operations += _part.routes.operations

"""What commands change stands in the audit log, as what is changed over the API does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from services.gateway.settings import GatewaySettings
from services.gateway.store import AUDIT, NO_TENANT, AuditLog
from shared.runtime.service import Platform


def audit_log(platform: Platform) -> AuditLog:
    keep = GatewaySettings.read().keep_audit
    return AuditLog(platform.store.collection(AUDIT), platform.clock, keep=keep)


@asynccontextmanager
async def noted(
    platform: Platform, tenants: str | Iterable[str], action: str, subject: str
) -> AsyncIterator[None]:
    """
    An entry for each of *tenants*, or one for the operator where there is none; who sat at the
    keyboard is not in it.

    Raises: Unavailable, before anything is done.
    """
    log = audit_log(platform)
    names = [tenants] if isinstance(tenants, str) else sorted(tenants) or [NO_TENANT]
    async with AsyncExitStack() as stack:
        for tenant in names:
            await stack.enter_async_context(
                log.doing(tenant=tenant, action=action, subject=subject)
            )
        yield

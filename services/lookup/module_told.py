"""What a CRM is told of us, and how the module stands, as it is told people. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.lookup.module_book import UNREACHED_TOLD, ModuleDocument
from shared.contracts.modules import ModuleRecord
from shared.crm.port import CrmConnector, HasTelephony, TelephonyModule
from shared.site.clicklinks import ClickAddresses
from shared.site.models import CrmConnection
from shared.site.telling import TelephonyPolicy


def telephony_of(connector: CrmConnector) -> HasTelephony | None:
    """None for a CRM in which no module can be registered by a request."""
    return connector if isinstance(connector, HasTelephony) and connector.has_module else None


def module_of(
    policy: TelephonyPolicy,
    addresses: ClickAddresses,
    *,
    codes: Mapping[str, str],
    shops: Mapping[str, str],
    active: bool = True,
) -> TelephonyModule:
    return TelephonyModule(
        code=policy.code,
        title=policy.title,
        logo=policy.logo,
        client_id=addresses.client_id,
        dial_url=addresses.dial_url,
        status_url=addresses.status_url,
        settings_url=None,
        codes=codes,
        shops=shops,
        editable=policy.editable,
        active=active,
    )


def made_of(module: TelephonyModule) -> str:
    """A hash of all that the CRM is told."""
    said = [
        module.code,
        module.title,
        module.logo,
        module.client_id,
        module.dial_url,
        module.status_url,
        sorted(module.codes.items()),
        sorted(module.shops.items()),
        module.editable,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def record_of(
    crm: CrmConnection, known: ModuleDocument | None, *, possible: bool, now: datetime
) -> ModuleRecord:
    """*known* is None where nothing was ever done."""
    wanted = crm.telephony.registered
    if known is None:
        return ModuleRecord(connection=crm.name, wanted=wanted, possible=possible)
    told: dict[str, Any] = {}
    if (there := known.registered) is not None:
        told = {
            "code": there.policy.code,
            "active": True,
            "extensions": tuple(extension for extension, _ in there.codes),
            "shops": dict(there.shops),
        }
    return ModuleRecord(
        connection=crm.name,
        wanted=wanted,
        possible=possible,
        **told,
        registered_at=known.registered_at,
        checked_at=known.checked_at,
        differs=known.differs,
        mended=known.mended,
        mended_at=known.mended_at,
        unknown=known.unknown,
        unreached=tuple(one for one in known.unreached if now - one.at < UNREACHED_TOLD),
        fault=known.fault,
    )

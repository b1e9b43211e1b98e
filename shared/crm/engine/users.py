"""The CRM's own users, out of its list of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog

from shared.contracts.contacts import CrmUser
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.pages import records_of
from shared.crm.engine.responsible import is_extension
from shared.crm.form.contacts import Users
from shared.crm.form.manifest import Event, Manifest
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import of_record
from shared.crm.port import Priority
from shared.errors import Unavailable

log = structlog.get_logger(__name__)

#: Of one list; a CRM with more has other ways to be asked.
_MOST_USERS = 10_000
_NO = frozenset({"", "false", "0", "no", "n", "inactive"})


class UserLister:
    def __init__(self, manifest: Manifest, requests: CrmRequests) -> None:
        self._manifest = manifest
        self._requests = requests

    async def list_users(self, *, within: timedelta) -> tuple[CrmUser, ...]:
        """As the port says."""
        users = self._manifest.users
        if users is None:
            return ()
        found: dict[str, CrmUser] = {}
        nameless = False
        async for record in records_of(
            self._requests,
            users.request,
            users.pages,
            records=users.records,
            variables={},
            within=within,
            priority=Priority.SYNC,
        ):
            nameless = nameless or self._shown(record, users.user_id) is None
            if (user := self._user(users, record)) is not None:
                found.setdefault(user.user_id, user)
            if len(found) >= _MOST_USERS:
                log.warning("users_cut_off", template=self._manifest.name, users=len(found))
                break
        if nameless and not found:
            raise Unavailable(f"the CRM's users have nothing at {users.user_id}")
        self._requests.follow(Event.USERS, {})
        return tuple(found.values())

    def _user(self, users: Users, record: Any) -> CrmUser | None:
        def shown(path: str | None) -> str | None:
            return self._shown(record, path)

        user_id = shown(users.user_id)
        if user_id is None:
            return None
        if users.active is not None and (shown(users.active) or "").lower() in _NO:
            return None
        full = " ".join(filter(None, (shown(users.first_name), shown(users.last_name))))
        extension = shown(users.extension)
        return CrmUser(
            user_id=user_id,
            display_name=shown(users.display_name) or full or user_id,
            email=shown(users.email),
            extension=extension if extension and is_extension(extension) else None,
        )

    def _shown(self, record: Any, path: str | None) -> str | None:
        if path is None:
            return None
        value = of_record(record, self._requests.path(path, {}))
        if value is False and self._manifest.values.false_is_empty:
            return None
        return plain_text(value).strip()[:200] or None

"""Where the sessions of one connection lie: read in a moment, written down whatever it takes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog
from pydantic import SecretStr

from shared.clock import Clock
from shared.crm.glance import Glance
from shared.crm.sessions.session import Session, SessionDocument, open_variables
from shared.errors import BadSetting, Conflict, MeshError, NotFound, TransientError
from shared.ids import new_id
from shared.secrets import Sealed, SecretBox
from shared.storage.port import Collection

log = structlog.get_logger(__name__)

#: Longer than a session takes to be made.
LEASE = timedelta(seconds=15)
#: A call waits so long for a rotated refresh token to be written down.
_KEPT_WITHIN = timedelta(seconds=2)
_RETRY = timedelta(milliseconds=500)


class SessionShelf:
    """The document of one connection."""

    def __init__(
        self,
        *,
        key: str,
        tenant: str,
        grant: str,
        sessions: Collection[SessionDocument],
        glance: Glance,
        secrets: SecretBox,
        clock: Clock,
    ) -> None:
        self.key = key
        self._tenant = tenant
        self._grant = grant
        self._sessions = sessions
        self._glance = glance
        self._secrets = secrets
        self._clock = clock
        self._writing: set[asyncio.Task[bool]] = set()
        self._keeping: asyncio.Task[bool] | None = None

    @property
    def is_keeping(self) -> bool:
        """A rotated refresh token is not written down yet."""
        return self._keeping is not None and not self._keeping.done()

    async def document(self) -> SessionDocument | None:
        """None where the store is away."""
        try:
            return await self._glance.at(self._sessions.get(self.key))
        except NotFound:
            with suppress(Conflict):
                await self._glance.at(self._sessions.add(self.blank()))
            return self.blank()

    def blank(self) -> SessionDocument:
        return SessionDocument(key=self.key, tenant=self._tenant, grant=self._grant)

    def of_grant(self, document: SessionDocument) -> SessionDocument:
        """Without what is known of another grant; a refresh token is no such thing."""
        if document.grant == self._grant:
            return document
        changes = {
            "grant": self._grant,
            "variables": None,
            "fetched_at": None,
            "good_until": None,
            "renewals": 0,
            "refusal": None,
        }
        return document.model_copy(update=changes)

    def variables(self, document: SessionDocument) -> dict[str, str]:
        """Nothing for those of another grant, and for those whose key was lost."""
        if document.grant != self._grant:
            return {}
        try:
            return open_variables(document, self._secrets)
        except BadSetting as error:
            log.warning("session_not_opened", key=self.key, error=error.message)
            return {}

    def session(self, document: SessionDocument) -> Session | None:
        variables = self.variables(document)
        if not variables or document.fetched_at is None or document.good_until is None:
            return None
        return Session(variables, document.fetched_at, document.good_until, document.renewals)

    def opened(self, sealed: Sealed | None) -> str | None:
        if sealed is None:
            return None
        try:
            return self._secrets.open(sealed).get_secret_value()
        except BadSetting as error:
            log.warning("session_not_opened", key=self.key, error=error.message)
            return None

    def sealed(self, value: str) -> Sealed:
        return self._secrets.seal(SecretStr(value))

    async def lease(
        self, document: SessionDocument, *, spending: bool
    ) -> tuple[SessionDocument, bool]:
        """
        *document* as who holds the lease has it, and whether that is sure: the store may have
        gone away meanwhile.

        Raises: Conflict, NotFound where another replica was faster.
        """
        changes = {
            "leased_until": self._clock.now() + LEASE,
            "lease": str(new_id()),
            "spending": document.spending or spending,
        }
        leased = document.model_copy(update=changes)
        written = await self._glance.at(self._sessions.replace(leased))
        return written or leased, written is not None

    async def put(self, document: SessionDocument) -> None:
        """Nobody waits long for it, but it is not left out: a lease that stays holds up the others."""
        task = self._started(document, used=None, until_done=False)
        await asyncio.wait({task}, timeout=self._glance.within.total_seconds())

    async def keep(self, document: SessionDocument, *, used: Sealed | None) -> bool:
        """
        Whether a rotated refresh token is written down. It goes on being tried until it is, in
        the place of *used*, of which it came.
        """
        self._keeping = task = self._started(document, used=used, until_done=True)
        await asyncio.wait({task}, timeout=_KEPT_WITHIN.total_seconds())
        return task.done() and task.result()

    async def close(self) -> None:
        """What is being written gets a moment more."""
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=_KEPT_WITHIN.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _started(
        self, document: SessionDocument, *, used: Sealed | None, until_done: bool
    ) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._written(document, used, until_done=until_done))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _written(
        self, document: SessionDocument, used: Sealed | None, *, until_done: bool
    ) -> bool:
        while True:
            try:
                if await self._replaced(document, used, until_done=until_done):
                    return True
            except TransientError as error:
                log.warning("session_not_stored", key=self.key, error=error.message)
                if not until_done:
                    return False
                await self._clock.sleep(_RETRY)
            except MeshError as error:
                log.warning("session_not_stored", key=self.key, error=error.message)
                return False

    async def _replaced(
        self, document: SessionDocument, used: Sealed | None, *, until_done: bool
    ) -> bool:
        """False: again. What somebody else has written meanwhile is not written over."""
        try:
            now = await self._sessions.get(self.key)
            has_lease = bool(document.lease) and now.lease == document.lease
            is_mine = has_lease or now.version == document.version
            # A token that took the place of the one that is there, whoever has the lease now.
            follows = until_done and self.opened(now.refresh_token) == self.opened(used)
            if not is_mine and not follows:
                log.info("session_superseded", key=self.key)
                return True
            await self._sessions.replace(document.model_copy(update={"version": now.version}))
        except Conflict:
            return False
        except NotFound:
            with suppress(Conflict):
                await self._sessions.add(document)
                return True
            return False
        return True

"""
Sessions: made ahead of their end, shared by all replicas through the store, sealed there.

One renewal at a time per connection: CRMs count them (Zoho gives ten in ten minutes) and those
that rotate the refresh token would end each other's. Whoever wins the lease renews, the others
wait for what it stores. A CRM that gives no session is left in peace, longer each time. Towards its
end a session in use is renewed behind it: a ringing call does not wait for the sign-in.

While the store is away each process makes its own: a ringing call is worth a token. Not so where
the refresh token rotates, which works once: it is written down before anything else is done, and
without the store it is not sent at all. Whether it rotates is seen at the first refresh; before
that, one that an administrator gave with grant ``refresh_token`` is taken for one that does not,
and one of a consent for one that does.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from shared.clock import Clock
from shared.crm.form.access import Auth, Grant
from shared.crm.glance import Glance
from shared.crm.rendering import Scope
from shared.crm.sessions.attempt import Attempt, GrantBook
from shared.crm.sessions.making import SessionMaker
from shared.crm.sessions.oauth import Granted
from shared.crm.sessions.replies import AuthRequests, ReadAnswer, json_answer
from shared.crm.sessions.session import (
    SESSIONS,
    Refusal,
    Session,
    SessionDocument,
    patience,
    seal_variables,
    session_key,
)
from shared.crm.sessions.shelf import LEASE, SessionShelf
from shared.errors import Conflict, NeedsReconnect, NotFound, Throttled, TransientError, Unavailable
from shared.net.client import HttpClient
from shared.secrets import SecretBox
from shared.storage.port import Collection

__all__ = ["SESSIONS", "Session", "SessionDocument", "SessionKeeper", "how_to_connect"]

log = structlog.get_logger(__name__)

_POLL = timedelta(milliseconds=100)
#: Less than the lease, so that nobody else begins while a slow CRM is still waited for.
_MADE_WITHIN = timedelta(seconds=12)
#: A replica whose lease ran out may just have the store back, and write its token down.
_GRACE = timedelta(seconds=2)
_CLOSED_WITHIN = timedelta(seconds=3)
#: The part of a session's time in which who uses it has the next one made, at most the second; one
#: try after the other, so far apart.
_LAST_PART, _LAST_MINUTE = 4, timedelta(minutes=1)
_BEHIND_AGAIN = timedelta(seconds=10)


def how_to_connect(tenant: str, connection: str) -> str:
    return f"`callmesh crm connect {tenant} {connection}`"


class SessionKeeper:
    """*grant* changes with the connection's values, so that a session of old ones is not used."""

    def __init__(
        self,
        auth: Auth,
        *,
        tenant: str,
        connection: str,
        login: str = "",
        scope: Scope,
        grant: str,
        sessions: Collection[SessionDocument],
        glance: Glance,
        http: HttpClient,
        secrets: SecretBox,
        clock: Clock,
        read_answer: ReadAnswer = json_answer,
    ) -> None:
        """
        *scope* holds the parameters and opened credentials; *read_answer* other than JSON. *login*:
        of the connection's own, empty, else another's: nobody consents for that one.
        """
        self._secrets = secrets
        self._clock = clock
        connect = None if login else how_to_connect(tenant, connection)
        self._shelf = SessionShelf(
            key=session_key(tenant, connection, auth, scope, login=login),
            tenant=tenant,
            grant=grant,
            sessions=sessions,
            glance=glance,
            secrets=secrets,
            clock=clock,
        )
        self._book = GrantBook(auth, scope, self._shelf, grant=grant, connect=connect)
        self._maker = SessionMaker(
            auth,
            scope,
            AuthRequests(http, clock, read_answer),
            again=f"connect it again: {connect}"
            if self._book.kind is Grant.AUTHORIZATION_CODE and connect is not None
            else "connect it again with credentials that it accepts",
            clock=clock,
        )
        self._held: Session | None = None
        self._refusal: Refusal | None = None
        self._seen: SessionDocument | None = None
        self._work: asyncio.Task[Session] | None = None
        self._behind_again: datetime | None = None

    async def session(self, *, refused: Session | None = None) -> Session:
        """
        A session that is good for a while. *refused* is one that the CRM did not accept: it is
        replaced, but not while it is fresh, for then the grant lacks a right. Who gives up waiting
        does not stop it: half a renewal could cost the grant.

        Raises: NeedsReconnect, Throttled, Unavailable; Rejected for an address that may not be
        called, ContractError for a template that makes no request.
        """
        while True:
            if (held := self._usable(self._held, refused)) is not None:
                self._renew_behind(held)
                return held
            work, is_mine = self._work, False
            if work is None or work.done():
                work, is_mine = self._started(refused), True
            found = await asyncio.shield(work)
            if is_mine or self._usable(found, refused) is not None:
                return found

    async def close(self) -> None:
        """What is under way gets a moment: half a renewal could cost the grant."""
        if self._work is not None and not self._work.done():
            await asyncio.wait({self._work}, timeout=_CLOSED_WITHIN.total_seconds())
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._shelf.close()

    # -- what is there -------------------------------------------------------------------------

    def _usable(self, session: Session | None, refused: Session | None) -> Session | None:
        if session is None or session.good_until <= self._clock.now():
            return None
        if refused is not None and session.is_no_newer_than(refused):
            return None
        return session

    def _renew_behind(self, held: Session) -> None:
        now = self._clock.now()
        last = min((held.good_until - held.fetched_at) / _LAST_PART, _LAST_MINUTE)
        if now < held.good_until - last or (self._work is not None and not self._work.done()):
            return
        if self._behind_again is None or self._behind_again <= now:
            self._behind_again = now + _BEHIND_AGAIN
            _ = self._started(None, behind=held)

    def _started(
        self, refused: Session | None, *, behind: Session | None = None
    ) -> asyncio.Task[Session]:
        self._work = work = asyncio.create_task(self._renewed(refused, behind=behind))
        work.add_done_callback(_heard)
        return work

    async def _renewed(self, refused: Session | None, *, behind: Session | None) -> Session:
        """Another than *refused*, and than *behind*, with which nothing is wrong."""
        deadline = self._clock.now() + LEASE
        while self._clock.now() <= deadline:
            document = await self._shelf.document()
            if document is None:
                self._heed(refused)
                self._held = await self._alone(refused)
                return self._held
            self._seen = document = self._shelf.of_grant(document)
            stored = self._usable(self._shelf.session(document), refused)
            if (found := self._usable(stored, behind)) is not None:
                self._refusal, self._held = None, found
                return found
            self._learn(document)
            self._heed(refused)
            if self._shelf.is_keeping:
                raise _unwritten()
            if document.leased_until is None or document.leased_until <= self._clock.now():
                made = await self._led(document, refused)
                if made is not None:
                    self._held = made
                    return made
                continue
            await self._clock.sleep(_POLL)
        raise Unavailable("another replica is renewing the CRM's session and does not get it")

    def _learn(self, document: SessionDocument) -> None:
        """Of two refusals the later counts; a success or a consent after it lifts one."""
        mine, stored = self._refusal, document.refusal
        changes = [at for at in (document.fetched_at, document.consented_at) if at is not None]
        if (
            mine is not None
            and mine.since is not None
            and max(changes, default=_NEVER) >= mine.since
        ):
            mine = None
        known = [refusal for refusal in (mine, stored) if refusal is not None]
        self._refusal = max(known, key=lambda refusal: refusal.until, default=None)

    def _heed(self, refused: Session | None) -> None:
        now = self._clock.now()
        if self._refusal is not None and self._refusal.until > now:
            raise self._refusal.error(now)
        if refused is None:
            return
        wait = refused.fetched_at + patience(refused.renewals) - now
        if wait > timedelta(0):
            raise NeedsReconnect(
                "the CRM does not accept a session that it just gave: the grant lacks a right; "
                "connect it again with every scope that is needed",
                retry_after=wait,
            )

    # -- a new one -----------------------------------------------------------------------------

    async def _led(self, document: SessionDocument, refused: Session | None) -> Session | None:
        """None: another replica was faster, or the store went away; look again."""
        token = self._book.refresh_token(document)
        spends = self._book.is_consumed and document.rotates is not False
        try:
            leased, is_sure = await self._shelf.lease(document, spending=spends)
        except (Conflict, NotFound):
            return None
        if spends and not is_sure:
            await self._shelf.put(leased.model_copy(update=_free(document.spending)))
            return None
        if spends and document.spending and document.leased_until is not None:
            await self._clock.sleep(_GRACE)
            now = await self._shelf.document()
            if now is None or now.version != leased.version:
                return None
        attempt = Attempt(leased, token, was_spending=document.spending)
        try:
            session = await self._made(attempt, refused)
        except BaseException:
            if not self._shelf.is_keeping:
                # What came of it is not known unless the CRM said no.
                await self._shelf.put(attempt.over(self._refusal))
            raise
        await self._shelf.put(self._with(attempt.over(None), session))
        return session

    async def _alone(self, refused: Session | None) -> Session:
        """Without the store, and so without the others."""
        document = self._seen or self._shelf.blank()
        token = None
        if self._book.is_consumed:
            if self._seen is None and self._book.kind is Grant.AUTHORIZATION_CODE:
                raise Unavailable("the store is away, and with it what the CRM was connected by")
            if self._book.may_rotate(document) or self._shelf.is_keeping:
                raise Unavailable(
                    "the store is away, and the CRM's refresh token works once: it is not used "
                    "before the next one can be written down"
                )
            token = self._book.refresh_token(document)
        return await self._made(Attempt(document, token, was_spending=False), refused)

    async def _made(self, attempt: Attempt, refused: Session | None) -> Session:
        async def keep(granted: Granted) -> None:
            await self._keep(attempt, granted)

        try:
            async with asyncio.timeout(_MADE_WITHIN.total_seconds()):
                session = await self._maker.make(
                    keep=keep,
                    refresh_token=attempt.token,
                    redirect_uri=attempt.document.redirect_uri,
                    before=self._shelf.variables(attempt.document),
                    renewals=refused.renewals + 1 if refused is not None else 0,
                )
        except TimeoutError:
            raise Unavailable("the CRM's sign-in takes too long") from None
        except (NeedsReconnect, Throttled) as error:
            raise self._refused(attempt, error) from None
        self._refusal = None
        return session

    async def _keep(self, attempt: Attempt, granted: Granted) -> None:
        """A new refresh token is stored before its access token is used."""
        attempt.is_answered = True
        fresh = granted.refresh_token
        document = attempt.document
        if fresh in {None, attempt.token} or self._book.kind is Grant.CLIENT_CREDENTIALS:
            if attempt.token is not None:
                seen = {"rotates": document.rotates or False, "spending": False}
                attempt.document = document.model_copy(update=seen)
            return
        used = document.refresh_token
        changes = {
            "refresh_token": self._shelf.sealed(fresh),
            "refresh_from": self._book.origin,
            "rotates": True if attempt.token is not None else document.rotates,
            "spending": False,
        }
        attempt.document = document.model_copy(update=changes)
        if self._book.is_consumed:
            self._seen = attempt.document
            if not await self._shelf.keep(attempt.document, used=used):
                raise _unwritten()

    def _refused(self, attempt: Attempt, error: NeedsReconnect | Throttled) -> TransientError:
        """Remembered for all who ask."""
        reason = error.message
        if attempt.was_spending and not attempt.is_answered and isinstance(error, NeedsReconnect):
            reason = (
                f"{reason}. The refresh token was used before, and the answer with the next one was "
                "lost before it was written down (a process or the network broke off)"
            )
        now = self._clock.now()
        times = self._refusal.times + 1 if self._refusal is not None else 1
        wait = max(patience(times - 1), error.retry_after or timedelta(0))
        self._refusal = Refusal(
            throttled=isinstance(error, Throttled),
            reason=reason,
            times=times,
            since=now,
            until=now + wait,
        )
        attempt.is_refused = True
        return self._refusal.error(now)

    def _with(self, document: SessionDocument, session: Session) -> SessionDocument:
        changes = {
            "variables": seal_variables(session.variables, self._secrets),
            "fetched_at": session.fetched_at,
            "good_until": session.good_until,
            "renewals": session.renewals,
        }
        self._seen = document = document.model_copy(update=changes)
        return document


_NEVER = datetime.min.replace(tzinfo=UTC)


def _free(spending: bool) -> dict[str, object]:
    return {"leased_until": None, "spending": spending}


def _unwritten() -> Unavailable:
    return Unavailable(
        "the CRM's new refresh token is not written down yet, for the store is away; until it is, "
        "nothing that came with it is used"
    )


def _heard(work: asyncio.Task[Session]) -> None:
    # Where everybody gave up nobody reads the error: say it, and asyncio is content.
    if not work.cancelled() and (error := work.exception()) is not None:
        log.info("session_not_made", error=str(error))

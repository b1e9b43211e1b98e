"""How a connection's sign-in is, for who looks after it. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from shared.crm.form.access import Auth, Grant
from shared.crm.sessions.session import SessionDocument
from shared.moments import Instant
from shared.observe.logging import mask_text


class SessionState(StrEnum):
    GOOD = "good"
    #: None is there now; the next request makes one.
    NONE = "none"
    #: The CRM gives none for a while.
    WAITING = "waiting"
    #: A person has to connect it again.
    NEEDS_RECONNECT = "needs_reconnect"
    #: Nobody has consented yet.
    NOT_CONNECTED = "not_connected"


class SessionStanding(BaseModel):
    """Of the last sign-in that was stored."""

    state: SessionState
    reason: str | None = Field(default=None, description="The CRM's words, where it refused.")
    good_until: Instant | None = None
    refused_since: Instant | None = None
    asked_again_at: Instant | None = Field(
        default=None, description="Nobody asks the CRM for a session before."
    )
    consented_at: Instant | None = None


def standing_of(
    document: SessionDocument | None,
    auth: Auth,
    *,
    grant: str,
    has_token: bool,
    now: datetime,
) -> SessionStanding:
    """*document*: what is stored; *has_token*: whether a refresh token is among the credentials."""
    by_consent = auth.oauth2 is not None and auth.oauth2.grant is Grant.AUTHORIZATION_CODE
    if by_consent and not has_token and (document is None or document.refresh_token is None):
        return SessionStanding(state=SessionState.NOT_CONNECTED)
    if document is None:
        return SessionStanding(state=SessionState.NONE)
    consented_at = document.consented_at
    if document.grant != grant:
        return SessionStanding(state=SessionState.NONE, consented_at=consented_at)
    if (refusal := document.refusal) is not None:
        return SessionStanding(
            state=SessionState.WAITING if refusal.throttled else SessionState.NEEDS_RECONNECT,
            reason=mask_text(refusal.reason),
            refused_since=refusal.since,
            asked_again_at=refusal.until,
            consented_at=consented_at,
        )
    good_until = document.good_until
    is_good = document.variables is not None and good_until is not None and good_until > now
    return SessionStanding(
        state=SessionState.GOOD if is_good else SessionState.NONE,
        good_until=good_until if is_good else None,
        consented_at=consented_at,
    )

"""One go at a session: which refresh token is sent, and what is known of the grant afterwards."""

from __future__ import annotations

from shared.crm.form.access import Auth, Grant
from shared.crm.language.functions import plain_text
from shared.crm.rendering import Scope
from shared.crm.sessions.session import Refusal, SessionDocument, origin_of, patience
from shared.crm.sessions.shelf import SessionShelf
from shared.errors import NeedsReconnect

_RESTARTABLE = frozenset({Grant.CLIENT_CREDENTIALS, Grant.PASSWORD})


class GrantBook:
    """What a connection is let in by."""

    def __init__(
        self, auth: Auth, scope: Scope, shelf: SessionShelf, *, grant: str, connect: str | None
    ) -> None:
        """*connect* is how a person connects it; None for what is not connected by a consent."""
        self.kind = auth.oauth2.grant if auth.oauth2 is not None else None
        asks = auth.oauth2 is not None and auth.oauth2.authorize_url is not None
        self._asks_for_consent = asks and connect is not None
        self._rotates = auth.oauth2.rotates if auth.oauth2 is not None else None
        self._shelf = shelf
        self._connect = connect
        self._configured = str(plain_text(scope.own.get("refresh_token")))
        #: What a refresh token that is stored has to have come from.
        self.origin = grant if self.kind is Grant.PASSWORD else origin_of(self._configured)

    @property
    def is_consumed(self) -> bool:
        """By a refresh token and nothing else: where that is lost, a person is needed."""
        return self.kind is not None and self.kind not in _RESTARTABLE

    def may_rotate(self, document: SessionDocument) -> bool:
        """
        Where neither the template says it nor it was seen, a refresh token that an administrator
        gave is taken for one that stays, and that of a consent for one that does not.
        """
        if document.rotates is not None:
            return document.rotates
        return self.kind is Grant.AUTHORIZATION_CODE if self._rotates is None else self._rotates

    def refresh_token(self, document: SessionDocument) -> str | None:
        """
        What is sent: the stored one; where an administrator has configured another than it came
        from, that one. None where the credentials themselves are sent.

        Raises: NeedsReconnect where there is none.
        """
        if self.kind is None or self.kind is Grant.CLIENT_CREDENTIALS:
            return None
        is_password = self.kind is Grant.PASSWORD
        belongs = document.refresh_from == self.origin
        stored = self._shelf.opened(document.refresh_token)
        if stored is not None and (belongs or not (is_password or self._configured)):
            return stored
        if is_password:
            return None
        if not self._configured:
            raise NeedsReconnect(
                f"nobody has connected it yet: connect it: {self._connect}"
                if self._asks_for_consent
                else "it has no refresh token: give it the credential refresh_token",
                retry_after=patience(0),
            )
        return self._configured


class Attempt:
    """The document as it is known to be, and what was sent."""

    def __init__(self, document: SessionDocument, token: str | None, *, was_spending: bool) -> None:
        self.document = document
        self.token = token
        self.was_spending = was_spending
        self.is_answered = False
        self.is_refused = False

    def over(self, refusal: Refusal | None) -> SessionDocument:
        """Without the lease."""
        changes: dict[str, object] = {"leased_until": None}
        if self.is_refused or refusal is None:
            changes["refusal"] = refusal
        if self.is_refused and not self.is_answered:
            changes["spending"] = self.was_spending
        return self.document.model_copy(update=changes)

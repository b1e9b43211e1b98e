"""What a connection's authentication made: in memory, and sealed in the store for all replicas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from pydantic import BaseModel, SecretStr

from shared.crm.form.access import Auth
from shared.crm.rendering import Scope
from shared.errors import BadSetting, ContractError, NeedsReconnect, Throttled, TransientError
from shared.moments import Instant
from shared.secrets import Sealed, SecretBox
from shared.storage.port import CollectionSpec, Document

#: A CRM that gave no token is asked again after the first, doubled each time up to the second; so
#: is one that did not like the token it gave. Zoho's ten tokens in ten minutes are never used up.
_PATIENCE = timedelta(minutes=1)
_LONGEST_PATIENCE = timedelta(minutes=15)


class Refusal(BaseModel):
    """Why the CRM gives no session for a grant, and until when nobody asks for one."""

    throttled: bool
    reason: str
    times: int
    since: Instant | None = None
    until: Instant

    def error(self, now: datetime) -> TransientError:
        kind = Throttled if self.throttled else NeedsReconnect
        return kind(self.reason, retry_after=self.until - now)


class SessionDocument(Document):
    """
    ``key`` as :func:`session_key` makes it. The session (*variables*, JSON) and a *refusal* belong
    to *grant*; a refresh token outlives changes of it. All secrets are sealed.
    """

    grant: str = ""
    variables: Sealed | None = None
    fetched_at: Instant | None = None
    good_until: Instant | None = None
    renewals: int = 0
    refusal: Refusal | None = None
    #: Of a consent, or what the CRM gave in exchange for the one before; not a configured one.
    refresh_token: Sealed | None = None
    #: Digest of the configured refresh token that this one came from or took the place of.
    refresh_from: str = ""
    #: Whether the CRM gives another refresh token each time; None: not seen yet.
    rotates: bool | None = None
    #: The refresh token was sent, and what came back is not written down: it may be dead.
    spending: bool = False
    #: Of the consent; some CRMs want it each time the token is refreshed.
    redirect_uri: str | None = None
    consented_at: Instant | None = None
    leased_until: Instant | None = None
    lease: str = ""


SESSIONS: CollectionSpec[SessionDocument] = CollectionSpec(name="crm.tokens", model=SessionDocument)


@dataclass(frozen=True, slots=True)
class Session:
    """
    *variables*: ``AccessToken`` and all that oauth2, discover and login took; secret. No request
    begins with it after *good_until*. *renewals*: how many sessions before it were replaced
    because the CRM did not accept them.
    """

    variables: Mapping[str, str] = field(repr=False)
    fetched_at: datetime
    good_until: datetime
    renewals: int = 0

    def is_no_newer_than(self, other: Session) -> bool:
        """The same session; a later one counts as another even where the CRM gave it again."""
        return self.variables == other.variables and self.fetched_at <= other.fetched_at


def session_key(tenant: str, connection: str, auth: Auth, scope: Scope, *, login: str = "") -> str:
    """
    ``tenant/connection``, for a *login* of a rule's own ``tenant/connection@login``, so that neither
    takes the other's place; and the OAuth client behind it: a refresh token is never sent to another
    server or for another client, and replicas that know of a change at different times do not
    write over each other's.
    """
    key = f"{tenant}/{connection}@{login}" if login else f"{tenant}/{connection}"
    if auth.oauth2 is None:
        return key
    places = (auth.oauth2.token_url, auth.oauth2.authorize_url or "", "{{.client_id}}")
    client = [_shown(text, scope) for text in places]
    return f"{key}/{hashlib.sha256(orjson.dumps(client)).hexdigest()[:16]}"


def _shown(text: str, scope: Scope) -> str:
    """What ``discover`` makes is not known yet; that stays as the template says it."""
    try:
        return scope.text(text)
    except ContractError:
        return text


def fingerprint(values: Mapping[str, str]) -> str:
    """A ``grant``: changes with any parameter or credential that a session was made with."""
    # Lengths apart, so that no two sets of values read the same.
    text = orjson.dumps(sorted(values.items()))
    return hashlib.sha256(text).hexdigest()


def origin_of(configured: str | None) -> str:
    """*configured*: the refresh token among a connection's credentials, if there is one."""
    return hashlib.sha256(configured.encode()).hexdigest() if configured else ""


def seal_variables(variables: Mapping[str, str], secrets: SecretBox) -> Sealed:
    return secrets.seal(SecretStr(orjson.dumps(dict(variables)).decode()))


def open_variables(document: SessionDocument, secrets: SecretBox) -> dict[str, str]:
    """Nothing where there is no session. Raises: BadSetting where its key was lost."""
    if document.variables is None:
        return {}
    found = orjson.loads(secrets.open(document.variables).get_secret_value())
    if not isinstance(found, dict):
        raise BadSetting("a stored session is none: it is made anew")
    return {str(name): str(value) for name, value in found.items()}


def patience(before: int) -> timedelta:
    """After so many refusals *before* this one."""
    return min(_PATIENCE * (1 << min(before, 10)), _LONGEST_PATIENCE)

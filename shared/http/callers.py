"""Who asks, and what he may do. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import Forbidden
from shared.ids import Extension, Name, TenantId
from shared.moments import Instant


class Scope(StrEnum):
    """What a key may do within its tenant."""

    HOOKS_WRITE = "hooks:write"
    ROUTE_ASK = "route:ask"
    CALLS_READ = "calls:read"
    CALLS_DIAL = "calls:dial"
    CALLS_WRITE = "calls:write"
    JOURNAL_READ = "journal:read"
    JOURNAL_WRITE = "journal:write"
    CONTACTS_READ = "contacts:read"
    CRM_WRITE = "crm:write"
    POPS_READ = "pops:read"
    AGENTS_WRITE = "agents:write"
    SITE_READ = "site:read"
    SITE_WRITE = "site:write"
    #: Screens of all agents, and every event of the tenant, as they happen.
    EVENTS_READ = "events:read"
    AGENTS_READ = "agents:read"
    SUBSCRIBERS_READ = "subscribers:read"
    SUBSCRIBERS_WRITE = "subscribers:write"
    LETTERS_READ = "letters:read"
    LETTERS_WRITE = "letters:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"
    #: Of the installation: tenants are listed, made and removed, and one key acts in all of them.
    TENANTS_READ = "tenants:read"
    TENANTS_WRITE = "tenants:write"


#: Any of them: for what every key may ask.
ANY_SCOPE = frozenset(Scope)
#: An operator's: its key acts in every tenant.
OF_THE_INSTALLATION = frozenset({Scope.TENANTS_READ, Scope.TENANTS_WRITE})
#: What nobody may do for one phone alone.
OF_THE_TENANT = OF_THE_INSTALLATION | {
    Scope.SITE_READ,
    Scope.SITE_WRITE,
    Scope.JOURNAL_READ,
    Scope.JOURNAL_WRITE,
    Scope.CRM_WRITE,
    Scope.EVENTS_READ,
    Scope.SUBSCRIBERS_READ,
    Scope.SUBSCRIBERS_WRITE,
    Scope.LETTERS_READ,
    Scope.LETTERS_WRITE,
    Scope.KEYS_READ,
    Scope.KEYS_WRITE,
    Scope.AUDIT_READ,
}


def in_words(scopes: Iterable[Scope]) -> str:
    return ", ".join(sorted(scopes))


class Caller(BaseModel):
    """Who asks: what a key stands for, and whose it is."""

    model_config = ConfigDict(frozen=True)

    #: Whose things are asked for.
    tenant: TenantId
    key_name: Name
    scopes: frozenset[Scope]
    extension: Extension | None = None
    #: None: the key is nobody's in particular.
    user: Name | None = None
    #: The key's own tenant, where an operator's acts in another.
    home: TenantId | None = None
    expires_at: Instant | None = None
    #: Requests a second, where the user has a rate of his own.
    rate: int | None = None
    #: SHA-256 of the token that he came with, in hex: it may end before the key does.
    token: str | None = Field(default=None, exclude=True, repr=False)

    @property
    def home_tenant(self) -> str:
        return self.home or self.tenant

    @property
    def is_operator(self) -> bool:
        return bool(self.scopes & OF_THE_INSTALLATION)

    def may_act_for(self, extension: str) -> None:
        """Raises Forbidden when the key is bound to another extension."""
        if self.extension is not None and self.extension != extension:
            raise Forbidden(f"this key is for extension {self.extension} only")

    def may_hand_on(self, scopes: Iterable[Scope], *, extension: str | None) -> None:
        """
        That nobody gets from this caller what it has not, and that it touches nobody who has more.

        Raises: Forbidden, which names what is lacking.
        """
        if lacking := set(scopes) - self.scopes:
            raise Forbidden(f"This API key lacks what that would be about: {in_words(lacking)}.")
        if self.extension is not None and self.extension != extension:
            raise Forbidden(f"This API key is for extension {self.extension}; so is what it makes.")

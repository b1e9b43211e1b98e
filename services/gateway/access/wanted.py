"""Users and keys as somebody wants them, and what goes together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.errors import ContractError
from shared.http.apikey import ApiKey
from shared.http.callers import OF_THE_TENANT, Scope, in_words
from shared.http.users import ApiUser
from shared.http.uses import KeyUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A user as somebody wants it."""

    title: str
    email: str | None
    scopes: frozenset[Scope]
    extension: str | None
    disabled: bool
    rate: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a new key shall be; *scopes* None: all that its user may."""

    scopes: frozenset[Scope] | None
    extension: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyHeld:
    """A key with what else is known of it."""

    key: ApiKey
    use: KeyUse | None
    #: Until when a token that was replaced is good, if one is.
    old_until: datetime | None


def check_phone(scopes: frozenset[Scope], extension: str | None) -> None:
    """Raises: ContractError."""
    if extension is not None and (whole := OF_THE_TENANT & scopes):
        raise ContractError(
            f"body.extension: {in_words(whole)} is about the whole tenant; leave out the extension, "
            "or these scopes"
        )


def makes_keys(user: ApiUser | None) -> bool:
    return user is not None and not user.disabled and Scope.KEYS_WRITE in user.scopes


def extension_for(user: ApiUser, wanted: str | None) -> str | None:
    if user.extension is not None and wanted not in {None, user.extension}:
        raise ContractError(f"body.extension: the user {user.name} is bound to {user.extension}")
    return wanted or user.extension


def use_of(key: ApiKey, uses: Mapping[str, KeyUse]) -> KeyUse | None:
    """Not one of another key, of the same name, from before."""
    use = uses.get(key.called)
    return use if use is not None and use.at >= key.created_at else None

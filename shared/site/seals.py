"""Secrets that were sealed before. Pure but for the keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from shared.secrets import PREFIX, SecretBox
from shared.site.rules.rule import RoutingRule


def with_current_seals(rule: RoutingRule, secrets: SecretBox) -> RoutingRule:
    """
    What a key sealed that is on its way out is sealed anew: versions and asterisks bring it back.

    Raises: BadSetting when a secret cannot be opened.
    """

    def renewed(sealed: str) -> str:
        plain = secrets.open(sealed)
        return sealed if secrets.is_current(sealed) else secrets.seal(plain)

    credentials = {name: renewed(sealed) for name, sealed in rule.credentials.items()}
    custom = rule.custom
    if custom is not None and (header := custom.header) is not None:
        header = header.model_copy(update={"value": renewed(header.value)})
        custom = custom.model_copy(update={"header": header})
    return rule.model_copy(update={"credentials": credentials, "custom": custom})


def with_old_seals(new: Any, old: Any, secrets: SecretBox) -> Any:
    """
    Sealing the same secret twice gives two texts; where it is the same, the old one stays, unless
    a key sealed it that is on its way out.

    Raises: BadSetting when a secret cannot be opened.
    """
    if isinstance(new, BaseModel) and type(new) is type(old):
        kept = {
            name: with_old_seals(getattr(new, name), getattr(old, name), secrets)
            for name in type(new).model_fields
        }
        return new.model_copy(update=kept)
    if isinstance(new, dict) and isinstance(old, dict):
        return {name: with_old_seals(v, old.get(name), secrets) for name, v in new.items()}
    if isinstance(new, str) and new.startswith(PREFIX) and isinstance(old, str):
        same = old.startswith(PREFIX) and secrets.open(new) == secrets.open(old)
        return old if same and secrets.is_current(old) else new
    return new

"""Any PBX that sends the documented JSON hook, by HTTP or straight onto the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import SecretStr

from shared.errors import BadSetting
from shared.pbx.generic.reader import GenericHookReader
from shared.pbx.port import Finding, PbxAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericSettings:
    """Raises: BadSetting for an empty secret, with which anybody could sign."""

    signing_secret: SecretStr | None = None

    def __post_init__(self) -> None:
        secret = self.signing_secret
        if secret is not None and not secret.get_secret_value().strip():
            raise BadSetting("signing_secret: is empty; leave it out where hooks are not signed")


def generic_adapter(settings: GenericSettings, *, tenant: str, pbx: str) -> PbxAdapter:
    """It tells and asks by itself; nothing of it can be reached, so that it takes no orders."""
    reader = GenericHookReader(tenant=tenant, pbx=pbx, secret=settings.signing_secret)
    return PbxAdapter(check=_check, hooks=reader)


async def _check() -> AsyncIterator[Finding]:
    yield Finding("nothing can be tried, as the PBX calls callmesh: send it a hook")

"""What can be done with a PBXware: it asks; it tells no events and takes no orders over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.pbx.port import Finding, PbxAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class PbxwareSettings:
    """*as_json*: the answer is ``{"value": …}`` in place of the text."""

    as_json: bool = False


def pbxware_adapter(settings: PbxwareSettings) -> PbxAdapter:
    return PbxAdapter(check=_check)


async def _check() -> AsyncIterator[Finding]:
    """It asks us, so there is nothing to try from here."""
    yield Finding("Custom CRM (PBXware asks; nothing can be tried from here)")

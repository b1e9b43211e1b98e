"""What the commands of ``route`` share: deciding without a service, and drafts in files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.cli.console import looking
from services.cli.ruletext import read_rule_file
from services.routing.app import deciding_of
from services.routing.explain import Explainer, Scene
from services.routing.staff_store import AGENTS, StaffBook
from shared.errors import ContractError
from shared.runtime.service import Platform
from shared.site.drafts import with_stored_secrets
from shared.site.parts import Sealing


@dataclass(frozen=True, slots=True)
class DraftFile:
    """A rule in a file, and its *rows* in another where they are many."""

    file: Path
    rows: Path | None = None

    @classmethod
    def of(cls, file: Path | None, rows: Path | None) -> DraftFile | None:
        """Raises: ContractError."""
        if file is None and rows is not None:
            raise ContractError("--rows: say with --rule whose rows they are")
        return cls(file, rows) if file is not None else None


@asynccontextmanager
async def explaining() -> AsyncIterator[tuple[Platform, Explainer]]:
    """Agents have the status that was kept; who is on a call is not known here."""
    async with looking() as platform:
        await platform.site.refresh()
        await platform.rules.refresh()
        connections = platform.crm_connections()
        finder = platform.finder(connections)
        try:
            deciding, shelves = deciding_of(platform, connections, finder)
            agents = StaffBook(platform.store.collection(AGENTS), platform.clock)
            await agents.read(deciding.asking.staff)
            await shelves.refresh()
            yield (
                platform,
                Explainer(deciding, shelves, platform.site, platform.rules, platform.secrets),
            )
        finally:
            await finder.close()
            await connections.close()


async def scene_of(
    platform: Platform,
    explainer: Explainer,
    tenant: str,
    draft: DraftFile | None,
    name: str | None = None,
) -> Scene:
    """Raises: BadSetting with a line for each fault of a draft; NotFound, ContractError."""
    if draft is None:
        return await explainer.scene(tenant, name=name)
    folder = draft.file.parent
    sealing = Sealing(platform.secrets, os.environ, folder)  # noqa: TID251  {env: NAME} in the file
    text = read_rule_file(draft.file, rows=draft.rows, sealing=sealing)
    stored = platform.rules.of(tenant).get(text.rule.name)
    rule = with_stored_secrets(text.rule, text.document.value, stored)
    return await explainer.scene(tenant, rule, name=name)

"""Calls told to journals that are killed, and what their CRM has of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from services.catalog import consumers
from services.cli.demo import prepare
from shared.ids import reference
from shared.runtime.platform import open_platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.site import site_file
from tests.mesh.processes import Mesh
from tests.mesh.stories import Stories

SETTINGS = {
    "CALLMESH_HTTP_PORT": "0",
    "CALLMESH_OPS_PORT": "0",
    "CALLMESH_JOURNAL_WRITE_WITHIN": "500ms",
    "CALLMESH_JOURNAL_RETRY_FIRST": "100ms",
}
#: A claim holds for 6 s here, and Zoho's search is believed after 5 s; some die more than once.
DONE_WITHIN = timedelta(minutes=10)
RECORDINGS = "https://recordings.example/"


@asynccontextmanager
async def telling(
    mesh: Mesh,
    crm: SandboxCrm,
    *,
    after_s: float = 0.2,
    more: str = "",
    connections: int = 1,
    is_written: Callable[[str], bool] | None = None,
) -> AsyncIterator[Stories]:
    """*more*: further CRM connections of the site."""
    text = site_file(crm_url=f"http://127.0.0.1:{await crm.start()}", ami_port=1, settle_s=after_s)
    policy = f"journal: {{after: {after_s}s"
    assert policy in text
    # Instead of a link that is made anew each time.
    text = text.replace(policy, f'{policy}, recording: "{RECORDINGS}{{{{.Recording}}}}"')
    text = text.replace("    agents:\n", f"{more}    agents:\n")
    async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
        await prepare(platform, text)
        await platform.bus.start()
        stories = Stories(platform, connections=connections, is_written=is_written)
        try:
            yield stories
            assert not await platform.bus.dead_letters.list()
        finally:
            await stories.end()
            await platform.bus.stop(drain=mesh.choice.mesh.drain)
            await crm.stop()


def entries_in(crm: SandboxCrm, call: str) -> list[str]:
    """What its entries say."""
    return [
        record["Description"]
        for record in crm.records("Calls")
        if reference(call) in record["Subject"]
    ]


def assert_one_entry_each(crm: SandboxCrm, calls: list[str]) -> None:
    subjects = [record["Subject"] for record in crm.records("Calls")]
    found = {call: sum(reference(call) in subject for subject in subjects) for call in calls}
    assert {call: count for call, count in found.items() if count != 1} == {}
    assert len(subjects) == len(calls)

"""``callmesh agents``: what is said on the command line, and what is shown of what became of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from services.catalog import CATALOG, consumers
from services.dialer.agents import AGENTS
from shared.errors import NotFound
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
)
from shared.testing.waiting import eventually
from tests.contract.test_pbx_commands import said

SITE = """\
version: 1
tenants:
  - tenant: acme
    pbx: [{name: door, kind: generic}]
    agents:
      - {extension: "101", name: "Anna [bold]"}
      - {extension: "102", name: Ben}
"""


async def the_dialer_works(folder: Path) -> None:
    """Until it has weighed what waited for it."""
    mesh = MeshSettings(data_dir=folder, settings_poll=timedelta(milliseconds=100))
    choice = Choice(mesh, AmqpSettings(), MongoSettings(), NetSettings())
    async with open_platform(choice, consumers=consumers()) as platform:
        await platform.site.refresh()
        async with running(
            [CATALOG["dialer"].build],
            platform,
            http=HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=timedelta(seconds=2),
        ):

            async def weighed() -> bool:
                try:
                    found = await platform.store.collection(AGENTS).get("acme/101")
                except NotFound:
                    return False
                return not found.outbox

            await eventually(weighed)


async def test_a_status_is_set_and_listed(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    assert (await said(tmp_path, "apply", str(tmp_path / "site.yaml"))).returncode == 0
    done = await said(tmp_path, "agents", "set", "101", "dinner", "--tenant", "acme")
    assert (done.returncode, done.stdout) == (0, "101 is dinner: on its way\n")
    await the_dialer_works(tmp_path)

    done = await said(tmp_path, "agents", "list", "--tenant", "acme")
    assert done.returncode == 0, done.stderr
    anna, ben = (line for line in done.stdout.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in anna.split("│")[1:4]] == ["101", "Anna [bold]", "dinner"]
    assert "api command-line" in anna
    assert "nobody has said" in ben
    done = await said(tmp_path, "agents", "list", "--tenant", "acme", "--status", "free")
    assert "Anna" not in done.stdout


async def test_what_cannot_be_said_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    await said(tmp_path, "apply", str(tmp_path / "site.yaml"))
    for arguments, fault in (
        (("list", "--tenant", "nobody"), "there is no tenant nobody"),
        (("set", "999", "free", "--tenant", "acme"), "999 is not one of acme's agents"),
        (("set", "101", "free", "--tenant", "acme", "--own", "x" * 101), "own"),
    ):
        done = await said(tmp_path, "agents", *arguments)
        assert done.returncode == 1
        assert fault in done.stderr

"""The whole mesh in one process, on both pairs of backends, against the sandbox CRM and PBX."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.bus.topology import Topology
from shared.ids import new_id
from shared.runtime.host import Running, running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import (
    AmqpSettings,
    BusKind,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
    StoreKind,
)
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.demo import MeshApi
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.site import PBX, TENANT, site_file
from shared.secrets import new_key
from shared.testing.patience import patient_with_services
from shared.testing.sweeping import sweep
from shared.testing.waiting import eventually


@dataclass
class WholeMesh:
    crm: SandboxCrm
    pbx: SandboxPbx
    platform: Platform
    state: Running
    session: aiohttp.ClientSession
    key: SecretStr

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.state.http_port}"

    @property
    def agi(self) -> tuple[str, int, str]:
        port = next(s.ports["fastagi"] for s in self.state.services if "fastagi" in s.ports)
        return ("127.0.0.1", port, f"route/{TENANT}/{PBX}")

    @property
    def api(self) -> MeshApi:
        return MeshApi(self.session, self.url, self.key.get_secret_value())

    async def get(self, path: str, **params: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, params=params, headers=self.headers) as found:
            return found.status, await found.json()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.session.post(
            self.url + path, json=body, headers={**self.headers, **headers}
        ) as found:
            return found.status, await found.json()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key.get_secret_value()}"}


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("servers", marks=[pytest.mark.rabbitmq, pytest.mark.mongodb]),
    ]
)
def choice(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Adapters of a mesh of its own: a folder, or a prefix and a database."""
    net = NetSettings(allow="127.0.0.0/8")
    embedded = MeshSettings(
        data_dir=tmp_path,
        settings_poll=timedelta(milliseconds=100),
        drain=timedelta(seconds=2),
    )
    if request.param == "embedded":
        yield Choice(embedded, AmqpSettings(), MongoSettings(), net)
        return
    name = f"test-{new_id().hex[:10]}"
    mongo_url = request.getfixturevalue("mongo_url")
    yield Choice(
        embedded.model_copy(
            update={
                "bus": BusKind.RABBIT,
                "store": StoreKind.MONGO,
                "secret_keys": new_key(),
            }
        ),
        AmqpSettings(url=SecretStr(request.getfixturevalue("amqp_url")), prefix=name),
        MongoSettings(url=SecretStr(mongo_url), database=name),
        net,
    )
    sweep(request.getfixturevalue("amqp_url"), Topology(name), consumers())
    with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
        client.drop_database(name)


@pytest.fixture
async def crm(tmp_path: Path) -> AsyncIterator[SandboxCrm]:
    server = SandboxCrm(tmp_path / "crm.db")
    yield server
    await server.stop()


@pytest.fixture(autouse=True)
def free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLMESH_ROUTING_AGI_PORT", "0")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How long dialplans, servers and services are waited for is real time: here as long as it takes."""
    for name in ("_ENVIRONMENT_WITHIN", "_COMMAND_WITHIN"):
        monkeypatch.setattr(f"shared.pbx.asterisk.fastagi.{name}", timedelta(minutes=1))
    with patient_with_services():
        yield


@pytest.fixture
async def mesh(choice: Choice, crm: SandboxCrm) -> AsyncIterator[WholeMesh]:
    async with opened(choice, crm) as found:
        yield found
        assert found.state.failed is None


@asynccontextmanager
async def opened(
    choice: Choice,
    crm: SandboxCrm,
    *,
    monitor: Path | None = None,
    http: HttpSettings | None = None,
) -> AsyncIterator[WholeMesh]:
    """
    The mesh with all six services, its site applied, both managers logged in. The PBX writes its
    recordings to *monitor*.
    """
    pbx = SandboxPbx(speed=20, monitor=monitor)
    text = site_file(
        crm_url=f"http://127.0.0.1:{await crm.start()}",
        ami_port=await pbx.start(),
        settle_s=0.1,
        within_s=10,
        monitor=monitor,
    )
    async with (
        open_platform(choice, consumers=consumers()) as platform,
        aiohttp.ClientSession() as session,
    ):
        key = await prepare(platform, text)
        async with running(
            [entry.build for entry in CATALOG.values()],
            platform,
            http=http or HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=choice.mesh.drain,
        ) as state:
            found = WholeMesh(crm, pbx, platform, state, session, key)
            pbx.agi = found.agi
            await has_begun(platform)
            await eventually(lambda: pbx.listeners == 2)
            yield found
        await pbx.stop()


async def has_begun(platform: Platform) -> None:
    """A broker and a store that are slow do not keep a mesh from its start: they come later."""
    await eventually(platform.bus.ready)
    await eventually(lambda: platform.site.loaded and platform.rules.loaded)

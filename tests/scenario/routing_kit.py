"""
Routing in a mesh: one question put by every face that it has, and the answers in the words of
tests/data/rules/scenarios.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any

import aiohttp
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.contracts.routing import DecideRoute, RouteDecision
from shared.ids import call_id
from shared.pbx.asking import digits_of, variables_of, way_of
from shared.runtime.host import Running, running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN
from shared.sandbox.pbx import SECRET, USERNAME, ask_route
from shared.sandbox.site import PBX, TENANT
from tests.scenario.conftest import has_begun

SITE = Path(__file__).parents[1] / "data" / "rules" / "site.yaml"
#: Nobody is asked for so long; what a face may take is a rule's own budget.
_PATIENCE = timedelta(seconds=10)
#: Said by other columns, or by the contact.
_ELSEWHERE = {"CRM_DEST", "CRM_REASON", "CRM_RULE", "CRM_NAME", "CRM_URL"}


def site_text(*, crm: str, text: str | None = None, ami_port: int = 1) -> str:
    """A site file, that of scenarios.md if it is not *text*; *crm* is the CRM's address."""
    return Template(text if text is not None else SITE.read_text()).safe_substitute(
        crm=crm,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        refresh_token=REFRESH_TOKEN,
        ami_port=ami_port,
        ami_username=USERNAME,
        ami_secret=SECRET,
    )


@dataclass(frozen=True, slots=True)
class Question:
    """*digits* as a dialplan sends them; *call* is the PBX's own id."""

    did: str
    caller: str
    ivr: str = ""
    digits: str = ""
    call: str = "1795244075.0"

    @property
    def call_id(self) -> str:
        return call_id(TENANT, PBX, self.call)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a PBX acts on; FastAGI does not say *row* and *value*."""

    goes_to: str
    reason: str
    rule: str
    told: str
    row: str = "-"
    value: str = "-"

    def __str__(self) -> str:
        cells = (self.goes_to, self.reason, self.rule, self.row, self.value, self.told)
        return f"| {' | '.join(cells)} |"

    @classmethod
    def of(cls, decision: RouteDecision) -> Shown:
        value = decision.value
        return cls(
            goes_to=way_of(decision) or "-",
            reason=decision.reason,
            rule=decision.rule or "-",
            told=_told(variables_of(decision)),
            row=str(decision.row or "-"),
            value="-" if value is None else str(value),
        )

    @classmethod
    def of_variables(cls, found: dict[str, str]) -> Shown:
        greeting = found.get("CRM_GREETING")
        asks = f"greeting:{greeting}" if greeting else "-"
        return cls(
            goes_to=found["CRM_DEST"] or asks,
            reason=found["CRM_REASON"],
            rule=found.get("CRM_RULE") or "-",
            told=_told(found),
        )


def _told(variables: dict[str, str]) -> str:
    said = [f"{n}={value}" for n, value in variables.items() if value and n not in _ELSEWHERE]
    return " ".join(said) or "-"


@dataclass(frozen=True, slots=True)
class Asker:
    """Everything that asks one process with routing in it; *key* has every scope."""

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
        return "127.0.0.1", port, f"route/{TENANT}/{PBX}"

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        key: SecretStr | None = None,
    ) -> tuple[int, Any]:
        bearer = {"Authorization": f"Bearer {(key or self.key).get_secret_value()}"}
        async with self.session.request(
            method, self.url + path, json=body, params=query, headers=bearer
        ) as found:
            return found.status, await found.json()

    async def by_fastagi(self, asked: Question) -> dict[str, str]:
        """The channel's variables."""
        return await ask_route(
            self.agi,
            caller=asked.caller,
            caller_name="",
            did=asked.did,
            uniqueid=asked.call,
            arguments=(asked.did, asked.digits, asked.ivr),
        )

    async def by_http(self, asked: Question) -> RouteDecision:
        query = {"did": asked.did, "from": asked.caller, "ivr": asked.ivr, "dtmf": asked.digits}
        query |= {"pbx": PBX, "call": asked.call, "as": "json"}
        status, answer = await self.send("GET", "/v1/route", query=query)
        assert status == 200, answer
        return RouteDecision.model_validate(answer)

    async def by_bus(self, asked: Question) -> RouteDecision:
        dtmf, collected = digits_of(asked.digits)
        query = DecideRoute(
            pbx=PBX,
            call_id=asked.call_id,
            did=asked.did,
            ivr=asked.ivr or None,
            caller=asked.caller,
            dtmf=dtmf,
            collected=collected,
        )
        publisher = self.platform.publisher("test")
        return await publisher.request(query, within=_PATIENCE, tenant=TENANT)

    async def by_explain(self, asked: Question, **more: Any) -> RouteDecision:
        """Without a call; *more* is what is supposed of it: ``at``, ``agents``, ``contact``."""
        question = {"did": asked.did, "from": asked.caller, "dtmf": asked.digits, **more}
        if asked.ivr:
            question["ivr"] = asked.ivr
        status, answer = await self.send("POST", "/v1/routes/explain", question)
        assert status == 200, answer
        return RouteDecision.model_validate(answer)


@asynccontextmanager
async def asking(
    choice: Choice, text: str, *, services: Sequence[str] = tuple(CATALOG)
) -> AsyncIterator[Asker]:
    """A process with *services*, all by default, and the site of *text*."""
    async with (
        open_platform(choice, consumers=consumers()) as platform,
        aiohttp.ClientSession() as session,
    ):
        key = await prepare(platform, text)
        async with serving(choice, platform, services) as state:
            yield Asker(platform, state, session, key)
            assert state.failed is None


@asynccontextmanager
async def asking_also(choice: Choice, first: Asker) -> AsyncIterator[Asker]:
    """Routing again, in what would be a process of its own; not with embedded files."""
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(open_platform(choice, consumers=consumers()))
        state = await stack.enter_async_context(serving(choice, platform, ("routing",)))
        yield Asker(platform, state, first.session, first.key)
        assert state.failed is None


@asynccontextmanager
async def serving(
    choice: Choice, platform: Platform, services: Sequence[str]
) -> AsyncIterator[Running]:
    async with running(
        [CATALOG[name].build for name in services],
        platform,
        http=HttpSettings(port=0),
        ops=OpsSettings(port=0),
        drain=choice.mesh.drain,
    ) as state:
        await has_begun(platform)
        yield state

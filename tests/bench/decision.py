"""
Decisions over FastAGI with a cached contact, beside a FastAGI server that says a fixed word.

Questions come at a rate, whether the last one was answered or not, and each is timed from when it
was due: what waits behind a slow one counts. All that decides is a process of its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from services.catalog import consumers
from services.cli.demo import prepare
from shared.runtime.platform import open_platform
from shared.runtime.service import Platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.pbx import ask_route
from shared.sandbox.site import CRM, PBX, TENANT, site_file
from shared.site.rules.rule import RoutingRule
from shared.testing.backends import Backends
from shared.testing.servers import LocalRabbit
from tests.mesh.processes import EmbeddedMesh, Mesh

RATES = (50, 500)
ROWS = (10, 1_000, 100_000)
#: At each rate, after as many that are not counted.
SECONDS, WARM = 5, 50
_ANSWER = {"CRM_DEST": "extension:101", "CRM_REASON": "fixed", "CRM_RULE": "none", "CRM_URL": ""}
_CALLER, _TIER = "447700900123", "SILVER"
_ECHO = "echo"

Agi = tuple[str, int, str]


async def measure(backends: Backends, folder: Path) -> list[str]:
    lines = [
        f"ms from when a question was due to its answer; {SECONDS} s at each rate; the last row matches",
        f"{'':<34}{''.join(f'{rate:>6}/s p50    p99' for rate in RATES)}",
    ]
    crm = SandboxCrm(folder / "decision-crm.db")
    text = site_file(crm_url=f"http://127.0.0.1:{await crm.start()}", ami_port=1)
    async with _echo() as agi:
        lines.append(await _timed("bare FastAGI echo", agi))
    with EmbeddedMesh(folder / "decision") as mesh:
        async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
            await _prepared(platform, text)
        await asyncio.to_thread(mesh.start, "routing")
        lines += await _each("embedded", mesh.agi_port)
    with (
        LocalRabbit() as rabbit,
        Mesh(rabbit.url, backends.mongo_url(), folder / "decision-mesh") as mesh,
    ):
        async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
            await _prepared(platform, text)
        await asyncio.to_thread(mesh.start, "routing")
        lines += await _each("MongoDB", mesh.agi_port)
        await asyncio.to_thread(rabbit.stop)
        lines += await _each("MongoDB, broker stopped", mesh.agi_port)
    async with _echo() as agi:
        lines.append(await _timed("bare FastAGI echo, again", agi))
    await crm.stop()
    return lines


async def _each(name: str, port: int) -> list[str]:
    lines = []
    for rows in ROWS:
        agi = ("127.0.0.1", port, f"route/{TENANT}/{PBX}")
        lines.append(await _timed(f"{name}, {rows:,} rows", agi, did=_did(rows)))
    return lines


async def _prepared(platform: Platform, text: str) -> None:
    """The sandbox's site, and a rule for each count of rows, of which the last one matches."""
    await prepare(platform, text)
    for rows in ROWS:
        others = [f"tier {number}" for number in range(rows - 1)]
        rule = RoutingRule.model_validate(
            {
                "name": f"rows-{rows}",
                "dids": [_did(rows)],
                "crm": CRM,
                "modules": ["Contacts"],
                "field": "Tier",
                "rows": [
                    {"operator": "=", "value": value, "destination": "queue:other"}
                    for value in others
                ]
                + [{"operator": "=", "value": _TIER, "destination": "extension:101"}],
                "default": "extension:102",
            }
        )
        await platform.rule_desk().put_rule(TENANT, rule, by="bench")


def _did(rows: int) -> str:
    return f"4420{rows:08d}"


async def _timed(name: str, agi: Agi, *, did: str = "442079460000") -> str:
    await _asked(agi, did, "warm", rate=RATES[0], count=WARM)
    cells = []
    for rate in RATES:
        took = await _asked(agi, did, f"{name}/{rate}", rate=rate, count=rate * SECONDS)
        answered = [ms for ms in took if ms is not None]
        cuts = quantiles(answered, n=100)
        lost = len(took) - len(answered)
        cells.append(f"{cuts[49]:>12.2f} {cuts[98]:>6.1f}{f' ({lost} refused)' if lost else ''}")
    return f"{name:<34}{''.join(cells)}"


async def _asked(agi: Agi, did: str, run: str, *, rate: int, count: int) -> Sequence[float | None]:
    """None for a question that was refused: more than a thousand waited already."""
    begin = perf_counter() + 0.01

    async def one(number: int) -> float | None:
        due = begin + number / rate
        try:
            found = await ask_route(
                agi,
                caller=_CALLER,
                caller_name="Customer",
                did=did,
                uniqueid=f"{run}.{number}",
            )
        except OSError:
            return None
        if not found:
            return None
        assert found["CRM_DEST"] == "extension:101", found
        return (perf_counter() - due) * 1000

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            wait = begin + number / rate - perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)  # noqa: TID251  it measures real time
            tasks.append(group.create_task(one(number)))
    return [task.result() for task in tasks]


@asynccontextmanager
async def _echo() -> AsyncIterator[Agi]:
    """The same dialogue without a question behind it, in a process of its own too."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, _ECHO), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield "127.0.0.1", int(await process.stdout.readline()), "route"
    finally:
        process.terminate()
        await process.wait()


async def _serve_echo() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            pass
        writer.write(b"GET FULL VARIABLE ${CHANNEL(linkedid)}\n")
        await reader.readline()
        for name, value in _ANSWER.items():
            writer.write(f'SET VARIABLE {name} "{value}"\n'.encode())
            await reader.readline()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_echo())

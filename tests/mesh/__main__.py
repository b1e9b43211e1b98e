"""
``make mesh``: the demo with six processes over a real RabbitMQ and MongoDB.

    python -m tests.mesh [--serve]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from services.catalog import consumers
from services.cli.console import out
from services.cli.demo import play_and_watch, prepare, say_what_now, show, went_well
from shared.runtime.host import stopping_on_signals
from shared.runtime.platform import open_platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.site import PBX, TENANT, site_file
from shared.testing.backends import Backends
from tests.mesh.processes import Mesh


async def demo(mesh: Mesh, *, serve: bool) -> int:
    async with AsyncExitStack() as stack:
        crm = SandboxCrm(mesh.folder / "sandbox-crm.db")
        crm_port = await crm.start()
        stack.push_async_callback(crm.stop)
        agi = ("127.0.0.1", mesh.agi_port, f"route/{TENANT}/{PBX}")
        pbx = SandboxPbx(speed=2, agi=agi)
        text = site_file(crm_url=f"http://127.0.0.1:{crm_port}", ami_port=await pbx.start())
        stack.push_async_callback(pbx.stop)
        async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
            key = await prepare(platform, text)
        await asyncio.to_thread(mesh.start)
        out.print(f"six processes, each ready; gateway: {mesh.url}   logs: {mesh.folder}")
        out.print("playing calls recorded from a real Asterisk:")
        stop = asyncio.Event()
        with stopping_on_signals(stop):
            told = await play_and_watch(pbx, mesh.url, key, mesh.folder, stop)
            if told is None:
                return 0
            show(told)
            if serve:
                say_what_now(mesh.url, key)
                await stop.wait()
        codes = await asyncio.to_thread(mesh.stop)
        out.print(f"stopped by SIGTERM; exit codes: {codes}")
        well = all(went_well(record) for record in told) and not any(codes.values())
        return 0 if well else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mesh", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve on until Ctrl-C")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callmesh-mesh-")))
        backends = Backends(os.environ, stack)  # noqa: TID251  test servers are named there
        out.print("starting RabbitMQ and MongoDB …")
        mesh = Mesh(backends.amqp_url(), backends.mongo_url(), folder)
        with mesh:
            return asyncio.run(demo(mesh, serve=arguments.serve))


if __name__ == "__main__":
    sys.exit(main())

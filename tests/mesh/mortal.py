"""
The journal as ``callmesh run journal`` runs it, in a process that ends itself where it is told to.

    python -m tests.mesh.mortal

Reads orders, a line of JSON each, and lives through one after the other; says on its output, a line
of JSON each, that a life began, where it ends, and with what exit code it ended. Lives are forked,
so that none of them has to import the mesh again. The log goes to the standard error.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from services.catalog import CATALOG, consumers
from services.cli.console import read_environment, run_async
from shared.net.guard import AddressGuard, networks
from shared.runtime.host import run_until_signal
from shared.runtime.platform import open_platform
from shared.runtime.settings import HttpSettings, OpsSettings
from tests.mesh.fate import Death, Fate, MortalBus, MortalClient, MortalStore


class Order(BaseModel):
    """Of one life. See :class:`~tests.mesh.fate.Fate`; without *mortal* it lives until a signal."""

    covered: Sequence[str] = ()
    spared: Sequence[str] = ()
    mortal: bool = True


class Word(BaseModel):
    """What is said of a life; one of the three at a time."""

    pid: int | None = None
    death: Death | None = None
    code: int | None = None


async def serve(order: Order, told: int) -> int:
    choice = read_environment()
    fate = Fate(
        covered=order.covered,
        spared=order.spared,
        tell=lambda death: say(told, Word(death=death)),
    )
    guard = AddressGuard(networks(choice.net.allow, setting="CALLMESH_NET_ALLOW"))
    async with (
        open_platform(choice, consumers=consumers()) as platform,
        MortalClient(guard, fate) as client,
    ):
        mortal = replace(
            platform,
            bus=MortalBus(platform.bus, fate),
            store=MortalStore(platform.store, fate),
            http=client,
        )
        return await run_until_signal(
            [CATALOG["journal"].build],
            mortal if order.mortal else platform,
            http=HttpSettings.read(),
            ops=OpsSettings.read(),
            drain=choice.mesh.drain,
        )


def say(to: int, word: Word) -> None:
    os.write(to, word.model_dump_json(exclude_none=True).encode() + b"\n")


def end_with_who_ordered_us() -> None:
    """No order comes while we live: what can be read is that there is nobody to give one."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def live(order: Order) -> int:
    # A thread: a loop would have the pipe not block, for our parent, too.
    threading.Thread(target=end_with_who_ordered_us, daemon=True).start()
    told = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        return run_async(serve(order, told))
    except BaseException:  # noqa: BLE001  whatever it is, a forked child must not go on as its parent
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def main() -> None:
    gc.freeze()
    while line := sys.stdin.readline():
        order = Order.model_validate_json(line)
        pid = os.fork()
        if pid == 0:
            os._exit(live(order))
        say(sys.stdout.fileno(), Word(pid=pid))
        _, status = os.waitpid(pid, 0)
        say(sys.stdout.fileno(), Word(code=os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()

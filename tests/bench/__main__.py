"""
``make bench``: what the mesh costs beside the bare thing, in one run on one pair of servers.

Rates on a shared machine swing; the ratios within a run are what to compare. Each figure is the
median of several rounds taken in turn.

    python -m tests.bench [bus] [lookup] [decision] [journal] [entries] [pbx] [history]
        [hooks] [webhooks] [pops]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from shared.observe.logging import LogFormat, configure
from shared.testing.backends import Backends
from tests.bench import bus, decision, entries, history, hooks, journal, lookup, pbx, pops, webhooks

PARTS: dict[str, Callable[[Backends, Path], Coroutine[Any, Any, list[str]]]] = {
    "bus": bus.measure,
    "lookup": lookup.measure,
    "decision": decision.measure,
    "journal": journal.measure,
    "entries": entries.measure,
    "pbx": pbx.measure,
    "history": history.measure,
    "pops": pops.measure,
    "hooks": hooks.measure,
    "webhooks": webhooks.measure,
}


def main(wanted: list[str]) -> int:
    unknown = set(wanted) - set(PARTS)
    if unknown:
        print(f"there is no {', '.join(unknown)}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callmesh-bench-")))
        log = stack.enter_context((folder / "log").open("w"))
        configure(form=LogFormat.JSON, level="ERROR", stream=log)
        backends = Backends(os.environ, stack)  # noqa: TID251  test servers are named there
        for name in wanted or PARTS:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                print(f"\n{name}")
                for line in runner.run(PARTS[name](backends, folder)):
                    print(f"  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""
``callmesh`` as it is typed, each command a process of its own: an environment, arguments, an exit
code, what it printed.

The processes are forked off one that has imported the command line; to import it takes 1.5 s of
CPU, a command a tenth of that. How the interpreter itself is started is for test_processes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

#: Far above the longest command, on a machine that does four times as much as it can.
_WITHIN = 120.0

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["services.cli.main", __name__])


def callmesh(folder: Path, *arguments: str, **settings: str) -> CompletedProcess[str]:
    """A command on the embedded default in *folder*. Raises: TimeoutError."""
    return command(arguments, environment=environment(folder, **settings))


def environment(folder: Path, **settings: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CALLMESH_")}  # noqa: TID251  a child's
    return {
        **kept,
        "CALLMESH_DATA_DIR": str(folder),
        "CALLMESH_HTTP_PORT": "0",
        "CALLMESH_OPS_PORT": "0",
        "CALLMESH_ROUTING_AGI_PORT": "0",
        **settings,
    }


def command(
    arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path | None = None
) -> CompletedProcess[str]:
    """Raises: TimeoutError."""
    with TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        process = _PROCESSES.Process(
            target=_run, args=(tuple(arguments), dict(environment), cwd, out, err)
        )
        process.start()
        with closing(process):
            process.join(_WITHIN)
            if process.exitcode is None:
                process.kill()
                process.join()
                raise TimeoutError(f"{' '.join(arguments)} still runs after {_WITHIN:g} s")
            return CompletedProcess(
                list(arguments), process.exitcode, out.read_text(), err.read_text()
            )


def _run(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    cwd: Path | None,
    out: Path,
    err: Path,
) -> None:
    """In the process: it gets what an interpreter gets when it is started."""
    for number, file, flags in (
        (0, Path(os.devnull), os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(file, flags, 0o600), number)
    ours = os.environ  # noqa: TID251  it is this process's own
    ours.clear()
    ours.update(environment)
    time.tzset()
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["callmesh", *arguments]
    # Its own modules look at the environment, as for how wide a line is: they are loaded in it.
    for name in [one for one in sys.modules if one.startswith("services.cli")]:
        del sys.modules[name]
    from services.cli.main import main

    main()

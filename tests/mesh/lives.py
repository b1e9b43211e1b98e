"""One replica of the journal after the other, as a test orders them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.mesh.fate import Death
from tests.mesh.mortal import Order, Word


@dataclass(frozen=True, slots=True)
class End:
    """*death*: where it was to end, and did, unless it lived until somebody else ended it."""

    code: int
    death: Death | None


class Lives:
    """Use as a context manager: who is alive at its end is killed."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[End] | None = None
        self.pid: int | None = None

    async def begin(self, order: Order) -> asyncio.Task[End]:
        """A life, from now on; the task is done when it has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(order.model_dump_json().encode() + b"\n")
        self.pid = (await self._word()).pid
        self._life = asyncio.create_task(self._end())
        return self._life

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Who is alive; nobody may be any more."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def _end(self) -> End:
        death = None
        while (word := await self._word()).code is None:
            death = word.death
        self.pid = None
        return End(word.code, death)

    async def _word(self) -> Word:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program that lives ended: {self.log()[-2000:]}")
        return Word.model_validate_json(line)

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.mesh.mortal"),
                env=dict(self._environment),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self.kill()
        # The program reads its orders to the end.
        self._process.stdin.close()
        if self._life is not None:
            await asyncio.gather(self._life, return_exceptions=True)
        await self._process.wait()

"""The loop of all tests: what the machine takes away does not pass, and what hangs ends."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import time
from datetime import timedelta

import pytest

from shared.clock import SystemClock
from shared.testing.stalls import PatientLoop

#: Of microseconds. It keeps the interpreter: all threads stand as when the machine runs none.
_stand = ctypes.PyDLL(None).usleep


async def test_the_tests_run_on_it() -> None:
    assert isinstance(asyncio.get_running_loop(), PatientLoop)


async def test_what_came_while_the_process_stood_is_in_time() -> None:
    """A program says its word after 0.3 s, which may take 1 s; the process stands for 2 s."""
    program = await asyncio.create_subprocess_exec(
        "sh", "-c", "read go; sleep 0.3; echo here", stdin=-1, stdout=-1
    )
    assert program.stdin is not None
    assert program.stdout is not None
    began = time.monotonic()
    async with asyncio.timeout(1):
        program.stdin.write(b"go\n")
        await SystemClock().sleep(timedelta(milliseconds=50))
        standing = asyncio.create_task(asyncio.to_thread(_stand, 2_000_000))
        assert await program.stdout.readline() == b"here\n"
    await standing
    assert time.monotonic() - began >= 2
    program.stdin.close()
    assert await program.wait() == 0


async def test_a_step_that_stands_takes_no_time() -> None:
    async with asyncio.timeout(0.5):
        shortly = asyncio.create_task(SystemClock().sleep(timedelta(milliseconds=100)))
        await SystemClock().sleep(timedelta(milliseconds=1))
        _stand(1_000_000)
        await shortly


async def test_what_hangs_ends_at_its_limit_and_not_before() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 0.3


async def test_what_computes_without_end_ends_too() -> None:
    async def endlessly() -> None:
        while True:
            await SystemClock().sleep(timedelta())

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(endlessly(), 0.3)


async def test_it_hears_signals_while_it_waits() -> None:
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    try:
        loop.call_later(0.05, signal.raise_signal, signal.SIGUSR1)
        await heard.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


def test_its_time_begins_as_everybodys() -> None:
    """Libraries compare both."""
    loop = PatientLoop()
    try:
        assert time.monotonic() - 5 < loop.time() <= time.monotonic()
    finally:
        loop.close()

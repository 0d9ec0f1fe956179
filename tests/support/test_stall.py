"""The stall detector sees what it is for, and only that."""

from __future__ import annotations

import time

import pytest
import trio

from tests.support.stall import STALL_SECONDS, no_stalls


async def _block() -> None:
    with no_stalls():
        time.sleep(STALL_SECONDS * 2)  # noqa: ASYNC251 - the very thing
        await trio.lowlevel.checkpoint()


async def _compute() -> None:
    with no_stalls():
        end = time.thread_time() + STALL_SECONDS * 1.5
        while time.thread_time() < end:
            pass
        await trio.lowlevel.checkpoint()


async def test_a_blocking_call_is_a_stall() -> None:
    with pytest.raises(AssertionError, match="test_a_blocking_call"):
        await _block()


async def test_long_computing_is_a_stall() -> None:
    with pytest.raises(AssertionError, match="computing"):
        await _compute()


async def test_work_in_threads_and_waiting_is_none() -> None:
    with no_stalls():
        await trio.to_thread.run_sync(time.sleep, STALL_SECONDS * 1.5)

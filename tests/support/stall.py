"""Notices a task that keeps the trio thread from its other work: long computing, or a blocking call."""

from __future__ import annotations

import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

STALL_SECONDS: Final = 0.1


class StallDetector(trio.abc.Instrument):
    """Records the tasks that held the thread for longer than `STALL_SECONDS` by their own doing.

    A busy machine may take the processor away for any time, which is nobody's fault. So wall time alone does not
    count: the step must also have computed that long, or have waited in the kernel of its own accord.
    """

    def __init__(self) -> None:
        self.stalls: list[str] = []
        self._began = _now()  # it is added in the middle of a step

    @override
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = _now()

    @override
    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        wall, computed, waits = (now - began for now, began in zip(_now(), self._began, strict=True))
        if wall > STALL_SECONDS and (computed > STALL_SECONDS or waits):
            self.stalls.append(
                f"{task.name}: {wall * 1000:.0f} ms, {computed * 1000:.0f} ms of them computing"
            )


def _now() -> tuple[float, float, int]:
    waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.perf_counter(), time.thread_time(), waits


@contextmanager
def no_stalls() -> Iterator[None]:
    """Fail at the end of the block if a task stalled the others in it. Use inside trio."""
    detector = StallDetector()
    trio.lowlevel.add_instrument(detector)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(detector)
    if detector.stalls:
        raise AssertionError("the trio thread was held: " + "; ".join(detector.stalls))

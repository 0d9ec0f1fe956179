"""Failures on demand, so that supervisors can be tested against a hypervisor that misbehaves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import trio

from virtsnap_protocol.errors import HypervisorError

Step = Literal[
    "start", "destroy", "shutdown", "suspend", "resume", "save", "restore", "take", "revert", "discard"
]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens when a step is next reached: first the delay, then the failure if there is one."""

    delay: float = 0.0
    """Seconds."""
    error: str | None = None


@dataclass
class Faults:
    """Faults that wait for their step; each happens once, those of one step in the order they were given."""

    _waiting: dict[Step, deque[Fault]] = field(default_factory=dict)

    def inject(self, step: Step, fault: Fault) -> None:
        """Let `fault` happen when `step` is next reached."""
        self._waiting.setdefault(step, deque()).append(fault)

    async def reach(self, step: Step) -> None:
        """Suffer the fault that waits for this step, if there is one.

        Raises:
            HypervisorError: The fault is a failure.
        """
        waiting = self._waiting.get(step)
        if not waiting:
            return
        fault = waiting.popleft()
        if fault.delay:
            await trio.sleep(fault.delay)
        if fault.error is not None:
            raise HypervisorError(f"simulated failure of {step}: {fault.error}", cause=fault.error)

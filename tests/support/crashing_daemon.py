"""The daemon, made to die or to dawdle at a chosen moment: `python -m tests.support.crashing_daemon OPTIONS ...`.

``--kill-at N --when MOMENT`` ends the process with SIGKILL at the N-th write of the store after it has said that it
is ready: ``before`` the write begins, ``within`` it (all statements done, the flush not begun), or ``after`` it is
durable and before anybody is told. ``--kill-in MODULE:NAME`` ends it at the first call of a function instead, before
it or after it. ``--delay STEP SECONDS`` slows the simulated hypervisor down. All other arguments
are those of virtsnapd.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import signal
import sys
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, get_args

import trio
from typing_extensions import override

from tests.support.rpc import connected
from virtsnapd import __main__ as command
from virtsnapd import daemon
from virtsnapd.drivers import DRIVERS
from virtsnapd.drivers.simulated.driver import SimulatedDriver
from virtsnapd.drivers.simulated.faults import Fault, Step
from virtsnapd.store import Store

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from tests.support.qemu_host import Host
    from tests.support.rpc import Rpc
    from virtsnapd.drivers.api import DriverContext
    from virtsnapd.store.store import _Request

Moment: TypeAlias = Literal["before", "within", "after"]
MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)


def crashing_command(kill_at: int, when: Moment) -> list[str]:
    """Return the command, for `Host`, of a daemon that dies at this write."""
    options = ["--kill-at", str(kill_at), "--when", when]
    return [sys.executable, "-m", "tests.support.crashing_daemon", *options]


def crashing_call(function: str, when: Moment) -> list[str]:
    """Return the command, for `Host`, of a daemon that dies before or after the first call of `MODULE:NAME`."""
    options = ["--kill-in", function, "--when", when]
    return [sys.executable, "-m", "tests.support.crashing_daemon", *options]


def survives(host: Host, call: Callable[[Rpc], Awaitable[object]]) -> bool:
    """Make a call on a host whose daemon may die of it, and end the daemon; return whether it had answered."""

    async def attempt() -> bool:
        try:
            async with connected(host.socket) as rpc:
                await call(rpc)
        except (EOFError, trio.BrokenResourceError):
            return False
        return True

    host.start()
    try:
        answered = trio.run(attempt)
    except BaseException:
        host.kill()
        raise
    if answered:
        host.kill()
    else:
        host.wait_killed()
    return answered


class CrashingStore(Store):
    """A store that takes the whole process with it."""

    kill_at = 0
    when = "before"
    armed = False
    writes = 0

    @override
    def _write(self, batch: list[_Request]) -> None:
        cls = CrashingStore
        cls.writes += cls.armed
        due = cls.armed and cls.writes == cls.kill_at
        if due and cls.when == "before":
            _die()
        if due and cls.when == "within":
            self._connection.set_trace_callback(lambda sql: _die() if sql == "COMMIT" else None)
        super()._write(batch)
        if due:
            _die()


class ArmingDaemon(daemon.Daemon):
    """A daemon that counts what it writes from the moment when it serves."""

    @override
    async def serve(self, listeners: list[tuple[socket.socket, bool]]) -> None:
        CrashingStore.armed = True
        await super().serve(listeners)


class SlowDriver(SimulatedDriver):
    """A simulated hypervisor that takes its time."""

    delays: ClassVar[dict[str, float]] = {}

    def __init__(self, uri: str, context: DriverContext) -> None:
        super().__init__(uri, context)
        for step in get_args(Step):
            if step in self.delays:
                self.faults.inject(step, Fault(delay=self.delays[step]))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in(function: str, when: Moment) -> None:
    module, _, path = function.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    real = getattr(owner, name)

    async def dying_later(*arguments: object, **named: object) -> None:
        if when != "before":
            await real(*arguments, **named)
        _die()

    def dying(*arguments: object, **named: object) -> None:
        if when != "before":
            real(*arguments, **named)
        _die()

    setattr(owner, name, dying_later if inspect.iscoroutinefunction(real) else dying)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; return its exit status if it survives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--when", choices=MOMENTS, default="before")
    parser.add_argument("--kill-in", default="")
    parser.add_argument("--delay", nargs=2, metavar=("STEP", "SECONDS"), action="append", default=[])
    options, rest = parser.parse_known_args(arguments)
    CrashingStore.kill_at, CrashingStore.when = options.kill_at, options.when
    if options.kill_in:
        _die_in(options.kill_in, options.when)
    vars(daemon)["Store"] = CrashingStore
    vars(command)["Daemon"] = ArmingDaemon
    SlowDriver.delays = {step: float(seconds) for step, seconds in options.delay}
    DRIVERS["test"] = SlowDriver
    return command.main(rest)


if __name__ == "__main__":
    sys.exit(main())

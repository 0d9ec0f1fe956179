"""How a monitor connection comes to be: the socket of a QEMU that may be starting, greeting, capabilities."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from virtsnapd.drivers.qemu.monitor import RECEIVE_SIZE, Link, Monitor, MonitorClosed, MonitorSilent
from virtsnapd.drivers.qemu.qmp import (
    Greeting,
    Message,
    ProtocolViolation,
    QmpReceiver,
    Return,
    encode_command,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from virtsnapd.drivers.qemu.process import GuestProcess

STARTING_DEADLINE: Final = 60.0
"""Seconds for a starting QEMU to answer. A loaded host takes long; the death of QEMU is noticed at once."""
RUNNING_DEADLINE: Final = 10.0
"""Seconds for a running QEMU to answer. A socket serves one client: the second connects and hears nothing."""
DEATH_GRACE: Final = 2.0
"""Seconds between QEMU's hanging up on us and its death, for which we wait since its own words say more."""

_FIRST_RETRY: Final = 0.002
_LAST_RETRY: Final = 0.05
_NOT_YET: Final = {errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN}
"""No socket yet; the socket of a former QEMU that was killed; a full backlog."""


@asynccontextmanager
async def open_monitor(
    path: Path, *, process: GuestProcess | None = None, deadline: float | None = None
) -> AsyncIterator[Monitor]:
    """Open a monitor for the length of a `with`; see `connect_monitor`, also for what it raises.

    What the body raises arrives in an exception group, since there is a nursery around it.
    """
    monitor = await _dial_monitor(path, process, deadline)
    async with trio.open_nursery() as nursery:
        await nursery.start(monitor.serve)
        try:
            yield monitor
        finally:
            with trio.CancelScope(shield=True):
                await monitor.aclose()


async def connect_monitor(
    nursery: trio.Nursery, path: Path, *, process: GuestProcess | None = None, deadline: float | None = None
) -> Monitor:
    """Return a ready connection to the QMP socket at `path`, whose tasks live in `nursery`.

    With `process`, a QEMU that may still be starting, wait for its socket to appear and watch for its death
    meanwhile. Without it, a socket that is not there is an error at once. The `deadline` is in seconds.

    Raises:
        HypervisorError: the process ended before its monitor answered; `cause` is the end of its log.
        MonitorSilent: no answer within the deadline: another client holds the socket, or QEMU hangs.
        MonitorClosed: nobody listens there, or not QEMU.
    """
    monitor = await _dial_monitor(path, process, deadline)
    await nursery.start(monitor.serve)
    return monitor


async def _dial_monitor(path: Path, process: GuestProcess | None, deadline: float | None) -> Monitor:
    if process is None:
        return Monitor(await _dial(path, deadline or RUNNING_DEADLINE), path)
    return Monitor(await _dial_starting(path, deadline or STARTING_DEADLINE, process), path)


async def _dial_starting(path: Path, deadline: float, process: GuestProcess) -> Link:
    link: Link | None = None
    failure = MonitorClosed(f"{path}: the process ended")
    async with trio.open_nursery() as racing:
        racing.start_soon(_cancel_at_death, process, racing.cancel_scope)
        try:
            link = await _dial(path, deadline, retry=True)
        except MonitorClosed as error:  # kept for below: a nursery would wrap it
            failure = error
            with trio.move_on_after(0 if isinstance(error, MonitorSilent) else DEATH_GRACE):
                await trio.sleep_forever()
        racing.cancel_scope.cancel()
    if process.ended():
        if link is not None:
            link.sock.close()
        raise await process.startup_failure()
    if link is None:
        raise failure
    return link


async def _cancel_at_death(process: GuestProcess, scope: trio.CancelScope) -> None:
    await process.wait_ended()
    scope.cancel()


async def _dial(path: Path, deadline: float, *, retry: bool = False) -> Link:
    with trio.move_on_after(deadline):
        sock = await _connected(path, retry=retry)
        try:
            return await _negotiated(sock)
        except (OSError, ProtocolViolation, EOFError) as error:
            sock.close()
            msg = f"{path}: {error}"
            raise MonitorClosed(msg) from error
        except BaseException:
            sock.close()
            raise
    msg = f"no answer on {path} within {deadline:g} seconds: another client holds it, or QEMU hangs"
    raise MonitorSilent(msg)


async def _connected(path: Path, *, retry: bool) -> trio.socket.SocketType:
    pause = _FIRST_RETRY
    while True:
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await sock.connect(os.fspath(path))
            sock.getpeername()  # trio takes EAGAIN (a full backlog) for a connection: then this fails
        except OSError as error:
            sock.close()
            number = errno.EAGAIN if error.errno == errno.ENOTCONN else error.errno
            if not (retry and number in _NOT_YET):
                msg = (
                    f"failed to connect to monitor socket {path}: {os.strerror(number) if number else error}"
                )
                raise MonitorClosed(msg) from error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
        await trio.sleep(pause)  # nothing announces the socket; the caller watches for QEMU's death
        pause = min(2 * pause, _LAST_RETRY)


async def _negotiated(sock: trio.socket.SocketType) -> Link:
    """Take the greeting and leave negotiation mode (qmp-spec, section 4)."""
    receiver = QmpReceiver()
    first, early = await _next_message(sock, receiver, [])
    if not isinstance(first, Greeting):
        msg = "not a QMP server"
        raise ProtocolViolation(msg)
    line = encode_command("qmp_capabilities", None, 0)
    if await sock.send(line) != len(line):
        msg = "no room for the first command"
        raise ProtocolViolation(msg)
    # What follows the answer at once are events, to which nobody can have subscribed yet.
    answer, _ = await _next_message(sock, receiver, early)
    if not isinstance(answer, Return):
        msg = f"capability negotiation failed: {answer}"
        raise ProtocolViolation(msg)
    return Link(sock=sock, receiver=receiver, greeting=first)


async def _next_message(
    sock: trio.socket.SocketType, receiver: QmpReceiver, early: list[Message]
) -> tuple[Message, list[Message]]:
    while not early:
        data = await sock.recv(RECEIVE_SIZE)
        if not data:
            msg = "closed before it was ready"
            raise EOFError(msg)
        early = receiver.receive_data(data)
    return early[0], early[1:]

"""A guest's memory and devices into a file and back: QEMU's migration, with a pipe to us at its other end.

The pipe is why the daemon sees a full disk in the system's own words, may bypass the host's cache, and why every
version of QEMU takes part (newer ones refuse a plain file). It ends with the daemon too: a QEMU whose daemon dies
finds nobody to write to, gives up, and keeps its guest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final

import trio

from virtsnap_protocol.errors import Error, HypervisorError
from virtsnapd.drivers.qemu.commands import MIGRATION_NONE, MIGRATION_OVER, Migration
from virtsnapd.drivers.qemu.monitor import CommandFailed, MonitorClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterator

    from virtsnapd.drivers.qemu.guest import Guest
    from virtsnapd.drivers.qemu.qmp import Event
    from virtsnapd.savefile import SavedState, SaveFile

PIPE_SIZE: Final = 1024 * 1024
"""What an unprivileged process may have (/proc/sys/fs/pipe-max-size)."""
GIVE_UP_SECONDS: Final = 30.0
"""How long a QEMU may take to notice that nobody reads what it saves."""
FINAL_POLL: Final = 0.002
"""Seconds between two looks at a state that nothing announces and that lasts about as long."""


async def save(guest: Guest, file: SaveFile) -> None:
    """Write memory and devices of a guest, which is stopped first, into `file`.

    Afterwards the guest is stopped and its images are closed for writing (`postmigrate`). A failure, or a cancelled
    caller, leaves it stopped: see `unsave`.

    Raises:
        SystemFailure: `file` cannot be written.
        MonitorError: QEMU failed, or has ended.
    """
    commands = guest.commands
    await commands.stop()
    with _pipe() as (reading, writing), guest.monitor.events() as events:
        await commands.prepare_migration()
        await commands.migrate(writing.fd, incoming=False)
        writing.close()

        async def copy() -> None:
            while data := await _read(reading.fd):
                await file.write(data)

        await _while_connected(guest, copy)
        reading.close()
        await _wait_success(guest, events, "migrate")


async def unsave(guest: Guest, *, running: bool) -> None:
    """Let a stopped guest run, or stay paused, after a `save` from which nothing comes.

    QEMU gives the images of a guest that has been saved back only to one that runs: so a paused one runs for about
    a millisecond. Without it could be neither saved again nor snapshotted.

    Raises:
        MonitorError: QEMU failed, or has ended.
    """
    await wait_given_up(guest)
    status = (await guest.commands.query_status()).status
    if status == "postmigrate" or (running and status != "running"):
        await guest.commands.cont()
        if not running:
            await guest.commands.stop()


async def wait_given_up(guest: Guest) -> None:
    """Wait until no migration is under way that nobody is at the other end of."""
    with trio.move_on_after(GIVE_UP_SECONDS), guest.monitor.events() as events:
        await _wait_over(guest, events, MIGRATION_OVER | MIGRATION_NONE)


async def restore(guest: Guest, saved: SavedState) -> None:
    """Load memory and devices into a guest that was started for it (`-incoming defer`); it is paused then.

    Raises:
        SystemFailure: The file cannot be read.
        HypervisorError: QEMU cannot load it; `cause` holds its words.
        MonitorError: The connection is gone for another reason.
    """
    commands = guest.commands
    try:
        with _pipe() as (reading, writing), guest.monitor.events() as events:
            await commands.prepare_migration()
            await commands.migrate(reading.fd, incoming=True)
            reading.close()

            async def copy() -> None:
                while data := await saved.read():
                    await _write(writing.fd, data)

            await _while_connected(guest, copy)
            writing.close()
            await _wait_success(guest, events, "migrate-incoming")
    except MonitorClosed:
        await _raise_its_words(guest)
        raise


async def _raise_its_words(guest: Guest) -> None:
    """Raise what a QEMU wrote before it ended: it ends when it cannot load (qemuProcessReportLogError)."""
    if not await guest.alive():
        words = await guest.process.log_tail()
        raise HypervisorError(f"QEMU unexpectedly closed the monitor: {words}", cause=words or None)


async def _while_connected(guest: Guest, copy: Callable[[], Awaitable[None]]) -> None:
    """Copy until the pipe ends; the end of the monitor ends it too, since a QEMU that hangs never closes it.

    Raises:
        MonitorClosed: The connection is gone; what became of the copy is unknown.
    """
    failure: Error | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_closed, guest, nursery.cancel_scope)
        try:
            await copy()
        except Error as error:  # raised below: a nursery would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if guest.monitor.closed.is_set():
        raise MonitorClosed(guest.monitor.reason, sent=True)


async def _cancel_when_closed(guest: Guest, scope: trio.CancelScope) -> None:
    await guest.monitor.closed.wait()
    scope.cancel()


async def _wait_success(guest: Guest, events: trio.MemoryReceiveChannel[Event], command: str) -> None:
    # one that comes in has not even begun for a moment after the command
    migration = await _wait_over(guest, events, MIGRATION_OVER)
    if migration.status != "completed":
        text = migration.error_desc or f"the migration has {migration.status}"
        raise CommandFailed(command, "GenericError", text)


async def _wait_over(
    guest: Guest, events: trio.MemoryReceiveChannel[Event], over: Container[str | None]
) -> Migration:
    """Wait until the migration's status is one of these, and return what became of it."""
    while (migration := await guest.commands.query_migrate()).status not in over:
        async for event in events:
            if event.name == "MIGRATION":
                break
        else:
            raise MonitorClosed(guest.monitor.reason, sent=True)
    while (await guest.commands.query_status()).status == "finish-migrate":  # noqa: ASYNC110 - as it says
        await trio.sleep(FINAL_POLL)
    return migration


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[_End, _End]]:
    """Yield the ends to read from and to write to. Ours must not block; QEMU sets its own as it likes."""
    ends = tuple(map(_End, os.pipe()))
    try:
        with contextlib.suppress(OSError):  # a smaller one does as well
            fcntl.fcntl(ends[0].fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        for end in ends:
            os.set_blocking(end.fd, False)
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()


async def _read(fd: int) -> bytes:
    while True:
        await trio.lowlevel.wait_readable(fd)
        with contextlib.suppress(BlockingIOError):
            return os.read(fd, PIPE_SIZE)


async def _write(fd: int, data: bytes) -> None:
    """Write all of it; what nobody reads any more is dropped, since the reader then says why."""
    rest = memoryview(data)
    while rest:
        await trio.lowlevel.wait_writable(fd)
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return

"""The guest's QEMU process: started detached, recognised after the daemon's restart, watched by pidfd.

A pid alone says little: it may be a zombie that nobody reaps, or by now another program. So a guest is
remembered as `GuestIdentity` and held by a pidfd, which is readable exactly when the process is dead.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from virtsnap_protocol.errors import HypervisorError, SystemFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG: Final = logging.getLogger(__name__)

LOG_TAIL: Final = 4096
"""Bytes of the guest's log that an error quotes at most."""

_START_TIME: Final = 22 - 3
"""proc(5): `starttime` is field 22; the fields after the command's closing bracket begin with field 3."""


class GuestIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which process is the guest: no other process, before or after, has all three in common with it."""

    pid: int
    start_time: int
    """Clock ticks after boot, from /proc/PID/stat."""
    boot_id: str


class GuestProcess:
    """A running or ended QEMU, our child or adopted. Close it when done; that leaves QEMU itself alone."""

    def __init__(self, identity: GuestIdentity, pidfd: int, *, log_path: Path | None, log_start: int) -> None:
        self.identity: Final = identity
        self.log_path: Final = log_path
        self.exit_status: int | None = None
        """Once ended: exit code, or minus the signal's number. Known of our own children only."""
        self._pidfd = pidfd
        self._log_start = log_start

    @property
    def pid(self) -> int:
        """The process id, for messages; act through the methods."""
        return self.identity.pid

    async def wait_ended(self) -> int | None:
        """Wait until QEMU is dead, reap it if it is our child, and return its `exit_status`.

        Any number of tasks may wait. A process that has ended already returns at once.
        """
        watched = os.dup(self._pidfd)  # trio allows one waiter per descriptor
        try:
            await trio.lowlevel.wait_readable(watched)
            self._reap(watched)
        finally:
            os.close(watched)
        return self.exit_status

    def ended(self) -> bool:
        """Tell whether QEMU is dead; a dead child is reaped on the way."""
        if not _readable(self._pidfd):
            return False
        self._reap(self._pidfd)
        return True

    def terminate(self) -> None:
        """Ask QEMU to quit (SIGTERM: it closes its disks in order). Nothing happens when it is dead."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill QEMU (SIGKILL). Nothing happens when it is dead."""
        self._signal(signal.SIGKILL)

    async def log_tail(self, limit: int = LOG_TAIL) -> str:
        """Return the last `limit` bytes of what QEMU has written to its log since this start, stripped."""
        if self.log_path is None:
            return ""
        return await trio.to_thread.run_sync(_read_tail, self.log_path, self._log_start, limit)

    async def startup_failure(self) -> HypervisorError:
        """Return the error for a QEMU that ended before it could be used, in libvirt's words and QEMU's own.

        libvirt: qemuProcessReportLogError.
        """
        tail = await self.log_tail()
        status = "" if self.exit_status is None else f"exit status {self.exit_status}"
        words = tail or status or "nothing in its log"
        return HypervisorError(
            f"process exited while connecting to monitor: {words}",
            cause=tail or status or None,
            details={"exit_status": self.exit_status},
        )

    async def aclose(self) -> None:
        """Let go of the process without touching it; a dead child is reaped. Closing twice is harmless."""
        if self._pidfd < 0:
            return
        self.ended()
        os.close(self._pidfd)
        self._pidfd = -1

    def _signal(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            _LOG.debug("process %d has ended already: no %s sent", self.pid, number.name)

    def _reap(self, pidfd: int) -> None:
        try:
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return  # not our child, or reaped already
        if ended is not None:
            killed = ended.si_code != os.CLD_EXITED
            self.exit_status = -ended.si_status if killed else ended.si_status


async def spawn(
    argv: Sequence[str],
    *,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> GuestProcess:
    """Start QEMU so that it outlives us: own session, no terminal, its words appended to `log_path`.

    `environment` replaces ours when given. The descriptors of `pass_fds` keep their numbers in QEMU; no other
    is inherited. That the process exists does not mean that it works: see `connecting.connect_monitor`.

    Raises:
        SystemFailure: the program or the log file cannot be opened.
    """
    start = partial(_spawn, list(argv), log_path, environment, tuple(pass_fds))
    # Not abandoned on cancellation: a process that was started has an owner.
    return await trio.to_thread.run_sync(start)


def adopt(identity: GuestIdentity, *, log_path: Path | None = None) -> GuestProcess | None:
    """Return the process that was recorded as `identity`, or None when it has ended.

    The pidfd comes first and the start time is compared after it, so a pid that was given to another program
    in between is noticed. A zombie counts as ended.
    """
    if identity.boot_id != read_boot_id():
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    log_start = 0 if log_path is None else _size(log_path)
    process = GuestProcess(identity, pidfd, log_path=log_path, log_start=log_start)
    try:
        same = read_start_time(identity.pid) == identity.start_time
    except (FileNotFoundError, ProcessLookupError):
        same = False
    if same and not process.ended():
        return process
    os.close(pidfd)
    return None


def read_boot_id() -> str:
    """Return the kernel's id of this boot: pids and start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def read_start_time(pid: int) -> int:
    """Return when the process started, in clock ticks after boot.

    Raises:
        FileNotFoundError, ProcessLookupError: there is no such process.
    """
    text = Path(f"/proc/{pid}/stat").read_bytes()
    # The command stands in brackets and may itself hold blanks and brackets.
    return int(text[text.rindex(b")") + 2 :].split()[_START_TIME])


def _spawn(
    argv: list[str], log_path: Path, environment: Mapping[str, str] | None, pass_fds: tuple[int, ...]
) -> GuestProcess:
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"failed to open log file '{log_path}': {error.strerror}"
        raise SystemFailure(msg) from error
    try:
        log_start = os.fstat(log).st_size
        child = subprocess.Popen(  # noqa: S603 (argv is built by us, without a shell)
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        # libvirt's words (virCommandExec)
        msg = f"cannot execute binary {argv[0]}: {error.strerror}"
        raise SystemFailure(msg, path=argv[0]) from error
    finally:
        os.close(log)
    return _own(child, log_path, log_start)


def _own(child: subprocess.Popen[bytes], log_path: Path, log_start: int) -> GuestProcess:
    """Turn the child into ours, or end it: there is no child without an owner."""
    try:
        pidfd = os.pidfd_open(child.pid)  # a child that is dead already is still there: nobody else reaps it
        identity = GuestIdentity(pid=child.pid, start_time=read_start_time(child.pid), boot_id=read_boot_id())
    except BaseException:
        child.kill()
        child.wait()
        raise
    # We reap through the pidfd; a set returncode keeps Popen's finaliser from doing (or lamenting) it.
    child.returncode = 0
    return GuestProcess(identity, pidfd, log_path=log_path, log_start=log_start)


def _readable(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_tail(path: Path, start: int, limit: int) -> str:
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(start, size - limit))
            return log.read(limit).decode(errors="replace").strip()
    except OSError:
        return ""

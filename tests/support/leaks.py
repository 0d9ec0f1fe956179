"""Finds what a test left behind: descriptors, processes (also those that left their parent), socket files."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from virtsnapd.config import ConfigError, paths_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

MARK: Final = f"VIRTSNAP_TEST_RUN={os.getpid()}"
"""Set in the environment of this run, and so in that of every process which it starts directly or not."""
PATIENCE_SECONDS: Final = 2.0
"""How long something that is just ending may take to end."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What there was before the test."""

    descriptors: Mapping[int, str]
    processes: frozenset[int]
    sockets: frozenset[Path]


def mark_environment() -> None:
    """Make this run's processes recognisable."""
    name, _, value = MARK.partition("=")
    os.environ[name] = value


def observe() -> State:
    """Return what there is now."""
    return State(
        descriptors=_descriptors(), processes=frozenset(_pids()), sockets=frozenset(_default_sockets())
    )


def leaks(before: State) -> list[str]:
    """Return a line for everything that was not there before and does not go away; end the processes."""
    pids = _settled(lambda: [pid for pid in _pids() if pid not in before.processes and _is_ours(pid)])
    found = [f"process {pid}: {_command(pid)}" for pid in pids]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    fds = _settled(lambda: _new_descriptors(before))
    found += [f"descriptor {line}" for line in fds]
    found += [f"socket {path}" for path in sorted(set(_default_sockets()) - before.sockets)]
    return found


def _settled(look: Callable[[], list[T]]) -> list[T]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := look()) and time.monotonic() < deadline:
        gc.collect()  # what is merely forgotten announces itself by a ResourceWarning, which is an error
        time.sleep(0.01)
    return found


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is needed
        with contextlib.suppress(FileNotFoundError):  # the one that listed the folder
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - not always a path
    return found


def _new_descriptors(before: State) -> list[str]:
    return [f"{fd}: {what}" for fd, what in _descriptors().items() if before.descriptors.get(fd) != what]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - as above


def _is_ours(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            return True  # a child; dead ones that nobody has waited for count too
        return MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or another user's


def _command(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "(gone)"
    return command.replace(b"\0", b" ").decode(errors="replace")[:200] or "(dead, nobody waited for it)"


def _default_sockets() -> Iterator[Path]:
    """Sockets in the folder that a daemon uses when it is not told another: no business of a test."""
    try:
        return paths_for(os.getuid(), os.environ).runtime_dir.glob("*.sock")
    except ConfigError:
        return iter(())

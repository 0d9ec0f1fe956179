"""Runs one script through libvirt's virsh and through ours, each on a fresh hypervisor, and keeps what was said."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from tests.peers.virsh.fork_server import Run
from tests.support.daemon import running_daemon, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.virsh.fork_server import ForkServer

URI: Final = "test:///default"
OURS: Final = (sys.executable, "-m", "virtsnap.cli")
VIRSH: Final = ("virsh",)

_VIRSH_PATIENCE: Final = 2.0
"""Seconds; a run takes a hundredth of that."""
_VIRSH_TRIES: Final = 10

_ENVIRONMENT: Final = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C.UTF-8",
    "TZ": "XYZ-05:30",  # far from UTC, so that a time shown in the wrong zone differs
    "LIBVIRT_LOG_OUTPUTS": "1:file:/dev/null",  # libvirt's own log would go to standard error
}


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is typed, and what it finds in the folder that it is run in."""

    commands: tuple[str, ...] = ()
    """Given as one argument, separated by ``;``; empty when one of the next two is used."""
    words: tuple[str, ...] = ()
    """One command whose words are arguments of their own."""
    stdin: str = ""
    options: tuple[str, ...] = ()
    """Global options beside the URI."""
    files: tuple[tuple[str, str], ...] = ()
    """Names and contents."""
    editor: str = "false"

    @property
    def argv(self) -> list[str]:
        """The arguments after the program's name. Marks tell later which command said what."""
        first, *others = self.commands or [""]
        text = "; ".join(
            [first, *(f"echo --err @@{n}@@; echo @@{n}@@; {c}" for n, c in enumerate(others, start=1))]
        )
        return ["-c", URI, *self.options, *(self.words or ([text] if text else []))]

    @property
    def title(self) -> str:
        """What to call it in a list of tests."""
        return " ".join([*self.options, *self.words, "; ".join(self.commands) or self.stdin])[:80]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one of the two said, and when and where it was run."""

    stdout: str
    stderr: str
    status: int
    began: float
    ended: float
    folder: Path


def transcript(script: Script, outcome: Outcome) -> str:
    """Return all of an outcome as one text: per command its output and, after ``!``, its errors; the status at the end.

    Two outcomes have the same transcript only if they are the same bytes.
    """
    newline = "" if {"-q", "--quiet"} & set(script.options) else "\n"
    said = re.split(rf"{newline}@@\d+@@{newline}", outcome.stdout)
    complained = re.split(r"error: @@\d+@@\n", outcome.stderr)
    commands = [*script.commands] or [" ".join(script.words) or "(standard input)"]
    text = ""
    for number in range(max(len(commands), len(said), len(complained))):
        text += f"$ {commands[number]}\n" if number < len(commands) else "$\n"
        text += _prefixed("  ", said[number]) if number < len(said) else ""
        text += _prefixed("! ", complained[number]) if number < len(complained) else ""
    return f"{text}status {outcome.status}\n"


def _prefixed(prefix: str, text: str) -> str:
    lines = text.split("\n")
    if lines[-1]:
        lines[-1] += "\n\\ no newline"
    else:
        lines.pop()
    return "".join(f"{prefix}{line}\n" for line in lines)


@contextmanager
def working_folder(script: Script) -> Iterator[Path]:
    """Make the folder that a script is run in: in memory where the machine offers that, with a short path."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    folder = Path(tempfile.mkdtemp(prefix="vs-", dir=memory if os.access(memory, os.W_OK) else "/tmp"))  # noqa: S108
    try:
        (folder / "home").mkdir()
        for name, content in script.files:
            (folder / "home" / name).write_text(content, encoding="utf-8")
        (folder / "stdin").write_text(script.stdin, encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder)


async def run_both(script: Script, forks: ForkServer | None = None) -> tuple[Outcome, Outcome]:
    """Run a script through libvirt's virsh and through ours, at the same time."""
    theirs: list[Outcome] = []

    async def peer(*, task_status: trio.TaskStatus[None]) -> None:
        theirs.append(await run_virsh(script, task_status=task_status))

    async with trio.open_nursery() as nursery:
        await nursery.start(
            peer
        )  # before there are sockets, which a process that is just starting would share
        ours = await run_ours(script, forks)
    return theirs[0], ours


async def run_virsh(
    script: Script, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> Outcome:
    """Run a script through libvirt's virsh; `task_status` hears when it has begun.

    One `save` or `managedsave` in fifteen hangs for ever in virsh 9.0, which then waits for a thread that has ended.
    Such a run is repeated; nothing of it remains.
    """
    for _ in range(_VIRSH_TRIES):
        with working_folder(script) as folder, trio.move_on_after(_VIRSH_PATIENCE):
            began = time.time()
            status = await _run_process(VIRSH, script, folder, _environment(script, folder), task_status)
            return _outcome(folder, status, began)
        task_status = trio.TASK_STATUS_IGNORED  # it has been told
    raise trio.TooSlowError


async def run_ours(script: Script, forks: ForkServer | None = None) -> Outcome:
    """Run a script through ours, on a fresh daemon: in a process of its own, or in one forked for it."""
    with working_folder(script) as folder:
        began = time.time()
        config = settings(folder)
        environment = _environment(script, folder) | {"VIRTSNAP_SOCKET": str(config.socket)}
        async with running_daemon(config):
            if forks is None:
                environment["PYTHONPATH"] = ":".join(sys.path)
                status = await _run_process(OURS, script, folder, environment)
            else:
                status = await forks.run(_forked(script, folder, environment))
        return _outcome(folder, status, began)


def _environment(script: Script, folder: Path) -> dict[str, str]:
    home = str(folder / "home")
    editors = {"EDITOR": script.editor, "VISUAL": script.editor}
    return {**_ENVIRONMENT, **editors, "HOME": home, "XDG_RUNTIME_DIR": home, "TMPDIR": str(folder)}


async def _run_process(
    program: tuple[str, ...],
    script: Script,
    folder: Path,
    environment: dict[str, str],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> int:
    with (
        (folder / "stdin").open("rb") as stdin,
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
    ):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    [*program, *script.argv],
                    cwd=folder / "home",
                    env=environment,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    check=False,
                )
            )
            task_status.started()
    assert process.returncode is not None
    return process.returncode


def _forked(script: Script, folder: Path, environment: dict[str, str]) -> Run:
    return Run(
        argv=script.argv,
        environment=environment,
        folder=str(folder / "home"),
        stdin=str(folder / "stdin"),
        stdout=str(folder / "stdout"),
        stderr=str(folder / "stderr"),
    )


def _outcome(folder: Path, status: int, began: float) -> Outcome:
    return Outcome(
        stdout=(folder / "stdout").read_bytes().decode("utf-8", "surrogateescape"),
        stderr=(folder / "stderr").read_bytes().decode("utf-8", "surrogateescape"),
        status=status,
        began=began,
        ended=time.time(),
        folder=folder,
    )

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import leaks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_an_open_descriptor_is_found(tmp_path: Path) -> None:
    before = leaks.observe()
    fd = os.open(tmp_path, os.O_RDONLY)
    found = leaks.leaks(before)
    os.close(fd)
    assert found == [f"descriptor {fd}: {tmp_path}"]


@pytest.mark.usefixtures("impatient")
def test_a_child_is_found_and_ended() -> None:
    before = leaks.observe()
    parent_end, child_end = socket.socketpair()
    with parent_end, subprocess.Popen(["cat"], stdin=child_end.fileno(), stdout=child_end.fileno()) as child:
        child_end.close()
        parent_end.send(b"running?")
        parent_end.recv(8)
        found = leaks.leaks(before)
    assert child.returncode == -9
    assert found[0] == f"process {child.pid}: cat "


@pytest.mark.usefixtures("impatient")
def test_a_process_that_left_its_parent_is_found() -> None:
    before = leaks.observe()
    detach = (
        "from subprocess import DEVNULL, Popen\n"
        "child = Popen(['sleep', '60'], stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)\n"
        "while not open(f'/proc/{child.pid}/cmdline').read(): pass\n"
        "print(child.pid)"
    )
    output = subprocess.run([sys.executable, "-c", detach], check=True, capture_output=True).stdout
    assert leaks.leaks(before) == [f"process {int(output)}: sleep 60 "]


@pytest.mark.usefixtures("impatient")
def test_a_child_that_nobody_waited_for_is_found() -> None:
    before = leaks.observe()
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    found = leaks.leaks(before)
    os.waitpid(child, 0)
    assert found == [f"process {child}: (dead, nobody waited for it)"]


def test_a_test_that_cleans_up_leaves_nothing(tmp_path: Path) -> None:
    before = leaks.observe()
    (tmp_path / "file").write_text("closed again")
    subprocess.run(["true"], check=True)
    assert leaks.leaks(before) == []

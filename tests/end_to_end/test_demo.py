"""`make demo`: it proves its story, and it leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.qemu_host import qemu_pids

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = [sys.executable, "-m", "tests.end_to_end.demo"]
ROOT = Path(__file__).parents[2]
SECONDS = 120


@pytest.fixture
def environment(short_tmp: Path) -> Mapping[str, str]:
    return {**os.environ, "TMPDIR": str(short_tmp)}


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] + [str(pid) for pid in qemu_pids(folder)]


def test_the_demo_proves_its_story_on_two_hosts(environment: Mapping[str, str], short_tmp: Path) -> None:
    done = subprocess.run(
        COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "host A: memory goes on at" in done.stdout
    assert "host B: memory goes on at" in done.stdout
    assert "base\n     |\n     +- hotfix\n     +- upgrade" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "\033" not in done.stdout
    assert left_in(short_tmp) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(
    environment: Mapping[str, str], short_tmp: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "[serial] w" in line:
                break
        assert left_in(short_tmp)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 130
    assert "interrupted" in errors
    assert left_in(short_tmp) == []


def test_a_demo_that_fails_says_so_and_leaves_nothing_behind(
    environment: Mapping[str, str], short_tmp: Path
) -> None:
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "[serial] w" in line:
                break
        (folder,) = short_tmp.iterdir()
        for pid in qemu_pids(folder):
            os.kill(pid, signal.SIGKILL)
        _, errors = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 1
    assert "FAILED: " in errors
    assert left_in(short_tmp) == []

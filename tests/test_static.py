"""The tools that read the sources without running them, and the files exported from the contract."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ruff", "check", "--no-cache"],
        ["ruff", "format", "--check", "--no-cache"],
        ["mypy"],
        ["virtsnap_protocol.export", "--check"],
    ],
    ids=" ".join,
)
def test_the_tool_has_nothing_to_say(arguments: list[str]) -> None:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        pytest.fail(f"{' '.join(arguments)}:\n{result.stdout}{result.stderr}", pytrace=False)

"""The help of virsh and ours: an option that both have is spelled alike."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache

import pytest

from virtsnap.cli.command import GROUPS
from virtsnap.cli.help import option_lines
from virtsnap.cli.table import COMMANDS

OURS = {"cd", "completion", "call", "echo", "help", "pwd", "quit", "exit"}
"""Of virtsnap itself; virsh's `help` and `echo` have other options."""


@cache
def virsh_help() -> dict[str, str]:
    """Return virsh's help of each command that both have."""
    done = subprocess.run(
        ["virsh", "; ".join(f"help {name}" for name in COMMANDS)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    texts = re.split(r"^  NAME\n", done.stdout, flags=re.MULTILINE)[1:]
    return {text.split()[0]: text for text in texts}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - OURS))
def test_options_that_virsh_has_too_are_spelled_and_ordered_alike(name: str) -> None:
    lines = virsh_help()[name].partition("  OPTIONS\n")[2].splitlines()
    theirs = [re.split(r"\s{2,}", line.strip())[0] for line in lines if line.strip()]
    command = COMMANDS[name]
    ours = [label for label, _ in option_lines(command)]
    common = {_name(label) for label in theirs} & {option.name for option in command.options}
    assert [x for x in ours if _name(x) in common] == [x for x in theirs if _name(x) in common]


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - OURS))
def test_what_virsh_requires_is_required(name: str) -> None:
    synopsis = virsh_help()[name].partition("  SYNOPSIS\n")[2].splitlines()[0]
    theirs = re.findall(r" <([\w-]+)>(?!\])", re.sub(r"\[[^\]]*(\[[^\]]*\])?[^\]]*\]", "", synopsis))
    assert [option.name for option in COMMANDS[name].options if option.required] == theirs


def _name(label: str) -> str:
    return label.split(maxsplit=1)[0].strip("[]<>-")


def test_groups_that_virsh_has_too_are_called_and_ordered_alike() -> None:
    done = subprocess.run(["virsh", "help"], capture_output=True, text=True, check=False)
    theirs = re.findall(r"^ (.*) \(help keyword '(\w+)'\):$", done.stdout, re.MULTILINE)
    common = {name for _, name in theirs} & set(GROUPS)
    assert {"domain", "snapshot", "events", "host", "monitor"} <= common
    assert [(title, name) for name, title in GROUPS.items() if name in common] == [
        pair for pair in theirs if pair[1] in common
    ]

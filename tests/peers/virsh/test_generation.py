"""The random scripts are what they say: complete, varied, and read by virsh's grammar as they are meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import find, given
from hypothesis import strategies as st

from tests.peers.virsh.generation import MOST_COMMANDS, SCRIPTS, quoted
from virtsnap.cli.grammar import split

if TYPE_CHECKING:
    from tests.peers.virsh.harness import Script


@given(script=SCRIPTS)
def test_every_file_that_is_named_is_there(script: Script) -> None:
    named = re.findall(r"\b\d+\.xml\b", " ".join(script.commands))
    assert sorted(named) == sorted(name for name, _ in script.files)


@given(word=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_quoted_word_is_read_as_it_is(word: str) -> None:
    assert split(f"echo {quoted(word)}") == [["echo", word]]


def test_a_failing_script_shrinks_to_the_command_that_fails() -> None:
    def reverts(script: Script) -> bool:
        return any(command.startswith("snapshot-revert") for command in script.commands)

    least = find(SCRIPTS, reverts)
    assert least.commands[0].startswith("snapshot-revert")
    assert not least.files


def test_scripts_can_have_the_most_commands() -> None:
    longest = find(SCRIPTS, lambda script: len(script.commands) > MOST_COMMANDS)
    assert longest.commands[-1] == "domstate test --reason"

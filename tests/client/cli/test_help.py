"""The texts of help: all from the declarations, in virsh's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from virtsnap.cli.__main__ import main
from virtsnap.cli.command import GROUPS, Command, Option
from virtsnap.cli.global_options import OPTIONS
from virtsnap.cli.help import by_group, command_facts, command_help, option_lines, synopsis
from virtsnap.cli.table import COMMANDS

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console


def command(*options: Option) -> Command:
    def run(console: Console, arguments: Arguments) -> None:
        raise AssertionError

    return Command(name="do", group="host", summary="s", description="d", options=options, run=run)


def test_the_brackets_of_a_synopsis_are_virshs() -> None:
    assert synopsis(
        command(
            Option("a", "text", "s", required=True),
            Option("b", "text", "s"),
            Option("c", "number", "s"),
            Option("d", "flag", "s"),
            Option("e", "many", "s"),
        )
    ) == ("do <a> [--b <string>] [--c <number>] [--d] [[--e] <string>]...")
    assert synopsis(command(Option("d", "flag", "s"), Option("e", "many", "s"))) == "do [--d] [<e>]..."
    assert synopsis(command(Option("e", "many", "s", required=True))) == "do {<e>}..."


def test_a_name_that_has_to_be_given_only_to_skip_others_stands_in_brackets() -> None:
    labels = [label for label, _ in option_lines(COMMANDS["snapshot-create-as"])]
    for label in ("[--domain] <string>", "--name <string>", "--memspec <string>", "[--diskspec] <string>"):
        assert label in labels
    assert [label for label, _ in option_lines(COMMANDS["echo"])][-1] == "<string>"


def test_the_values_of_an_option_are_listed() -> None:
    told = option_lines(command(Option("mode", "text", "how", choices=("a", "b"))))
    assert told == [("--mode <string>", "how: a, b")]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_options_mean_stands_in_one_column(name: str) -> None:
    command = COMMANDS[name]
    lines = command_help(command).partition("  OPTIONS\n")[2].splitlines()
    options = zip(lines, command.options, strict=False)
    columns = {len(line.removesuffix(option.explanation)) for line, option in options}
    assert len(columns) == (1 if command.options else 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_is_explained(name: str) -> None:
    command = COMMANDS[name]
    assert command.name == name
    assert command.summary
    assert not command.summary.endswith(".")
    assert command.description.endswith(".")
    assert [option.name for option in command.options if not option.summary] == []
    assert len({option.name for option in command.options}) == len(command.options)


def test_all_groups_have_commands_and_all_commands_a_group() -> None:
    members = by_group(COMMANDS.values())
    assert list(members) == list(GROUPS)
    assert all(members.values())
    assert sorted(c.name for group in members.values() for c in group) == sorted(COMMANDS)


def test_the_whole_help_has_every_command_and_every_global_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("\nvirtsnap [options]... [<command_string>]\n")
    assert [c for c in COMMANDS.values() if f"\n    {c.name:<30} {c.summary}\n" not in text] == []
    assert [o.name for o in OPTIONS if f"--{o.name}" not in text or not o.summary] == []
    assert text.endswith("\n  (specify help <command> for details about the command)\n\n")


def test_help_of_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "events"]) == 0
    text = capsys.readouterr().out
    assert text == f" Domain Events (help keyword 'events'):\n    {'event':<30} wait for events\n\n"


def test_help_of_a_command_is_what_its_option_help_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["help", "snapshot-info"])
    expected = capsys.readouterr().out
    main(["snapshot-info", "--help"])
    assert capsys.readouterr().out == expected


def test_programs_get_the_whole_declaration() -> None:
    option = Option("mode", "text", "how", choices=("a",))
    assert command_facts(command(option, Option("now", "flag", "at once"))) == {
        "name": "do",
        "group": "host",
        "summary": "s",
        "description": "d",
        "options": [
            {"name": "mode", "kind": "text", "required": False, "summary": "how", "choices": ("a",)},
            {"name": "now", "kind": "flag", "required": False, "summary": "at once"},
        ],
    }

"""The texts of help."""

from __future__ import annotations

import pytest

from virtsnap.cli.help import command_help
from virtsnap.cli.table import COMMANDS


def test_an_option_that_may_be_given_by_position_shows_that_its_name_may_be_left_out() -> None:
    text = command_help(COMMANDS["snapshot-create-as"])
    assert "    snapshot-create-as <domain> [--name <string>]" in text
    for label in ("[--domain] <string>", "[--name] <string>", "--memspec <string>", "[--diskspec] <string>"):
        assert f"\n    {label} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_what_options_mean_stands_in_one_column(name: str) -> None:
    command = COMMANDS[name]
    lines = command_help(command).partition("  OPTIONS\n")[2].splitlines()
    options = zip(lines, command.options, strict=False)
    columns = {len(line.removesuffix(option.summary)) for line, option in options}
    assert len(columns) == (1 if command.options else 0)

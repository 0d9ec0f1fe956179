"""The man pages: what is committed is what the declarations say, well formed, and complete."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import man
from virtsnap.cli import __main__, global_options, grammar
from virtsnap.cli.table import COMMANDS
from virtsnapd.__main__ import parser

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = {"virtsnap": "client/virtsnap", "virtsnapd": "snapd/virtsnapd"}
VARIABLE: Final = re.compile(r"(VIRTSNAP|XDG|LISTEN|NOTIFY)_[A-Z_]+|VISUAL|EDITOR|HOME")


@pytest.fixture(params=man.SECTIONS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_a_page_is_what_the_declarations_say(name: str) -> None:
    committed = man.path(name).read_text(encoding="utf-8")
    assert committed == man.page(name), f"{man.path(name).name} is stale: run `make regenerate`"


def shown(name: str) -> str:
    """Return a page as it is read; the formatter may not complain."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", "-rHY=0", "-rLL=2000n", str(man.path(name))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_page_can_be_shown_without_a_warning(name: str) -> None:
    text = shown(name)
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "EXIT STATUS"):
        assert f"\n{heading}\n" in text


def test_every_command_and_option_of_virtsnap_can_be_read_up() -> None:
    lines = {line.strip() for line in shown("virtsnap").splitlines()}
    words = {word for line in lines for word in line.split()}
    assert set(COMMANDS) <= {line.split()[0] for line in lines if line}
    assert [o.name for c in COMMANDS.values() for o in c.options if o.summary not in " ".join(lines)] == []
    assert [
        o.name for o in global_options.OPTIONS if not any(w.startswith(f"--{o.name}") for w in words)
    ] == []


def test_every_option_of_the_daemon_can_be_read_up() -> None:
    text = shown("virtsnapd")
    options = {option for action in parser()._actions for option in action.option_strings}
    assert {"--config", "--check"} <= options
    assert [option for option in options if option not in text] == []


def test_every_variable_that_the_code_reads_is_explained(name: str) -> None:
    page = shown(name)
    used = {text for path in (ROOT / SOURCES[name]).rglob("*.py") for text in _strings(path)}
    variables = {text for text in used if VARIABLE.fullmatch(text)}
    assert len(variables) > 2
    assert [variable for variable in variables if variable not in page] == []


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_exit_status_is_explained() -> None:
    status = shown("virtsnap").partition("\nEXIT STATUS\n")[2].partition("\nEXAMPLES\n")[0]
    told = {line.split()[0] for line in status.splitlines() if line.strip() and line.split()[0].isdigit()}
    assert told == {"0", "1", str(__main__.INTERRUPTED), str(__main__.PIPE_CLOSED)}


def _examples() -> list[str]:
    text = (man.FOLDER / "virtsnap.rst").read_text(encoding="utf-8")
    return re.findall(r"^    (virtsnap .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("line", _examples())
def test_an_example_is_a_command_that_there_is(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0])
    _, rest = global_options.parse(words[1:])
    assert len(grammar.parse([rest] if rest else [], COMMANDS)) == bool(rest)


def test_the_pages_and_completions_are_installed_where_programs_look() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    installed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert [source for source in installed if not (ROOT / source).is_file()] == []
    assert {
        "share/man/man1/virtsnap.1",
        "share/man/man8/virtsnapd.8",
        "share/bash-completion/completions/virtsnap",
        "share/zsh/site-functions/_virtsnap",
        "share/fish/vendor_completions.d/virtsnap.fish",
    } <= set(installed.values())
    for name in man.SECTIONS:
        assert str(man.path(name).relative_to(ROOT)) in installed

"""Completion in shells: what is answered, and the real bash, zsh and fish against a real daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support.daemon import running_daemon, settings
from tests.support.fake_daemon import FakeDaemon, silent
from tests.support.shells import ShellTerminal
from virtsnap.cli.__main__ import main
from virtsnap.cli.shell_completion import SHELLS, candidates
from virtsnap.cli.table import COMMANDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMPLETIONS: Final = Path(__file__).parents[3] / "client" / "completions"
PRINTED: Final = {
    "bash": 'eval "$(virtsnap completion bash)"',
    "zsh": 'eval "$(virtsnap completion zsh)"',
    "fish": "virtsnap completion fish | source",
}
"""What the README has users put into their shell's settings."""
SHIPPED: Final = {
    "bash": f"source {COMPLETIONS}/virtsnap.bash",
    "zsh": f"fpath=({COMPLETIONS} $fpath); compinit -u -D",
    "fish": f"source {COMPLETIONS}/virtsnap.fish",
}
"""What each shell does with the files that are installed for it."""

DOMAIN: Final = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
SNAPSHOT: Final = "<domainsnapshot><name>{}</name></domainsnapshot>"
NAMES: Final = (
    ("my\\ o", "my old 'vm'"),
    ("'my o", "my old 'vm'"),
    ('"my', "my old 'vm'"),
    ('my" o', "my old 'vm'"),
    ("q", 'q"u $HOME `x`'),
    ('"q\\"', 'q"u $HOME `x`'),
    ("ünï\\ c", "ünï cödé"),
    ("'ba", "back\\slash"),
    ("a:", "a:b"),
    ("x=", "x=y"),
    ("\\#", "#hash"),
    ("-l", "-lead"),
)
"""What is typed, and the name that it is the beginning of, for each shell."""


@pytest.fixture
async def socket(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """Run a daemon that has domains and snapshots with awkward names."""
    async with running_daemon(settings(short_tmp)) as running:
        monkeypatch.setenv("VIRTSNAP_SOCKET", str(running.config.socket))
        monkeypatch.setenv("VIRTSNAP_URI", "test:///default")
        async with running.client() as rpc:
            for name in {"plain", *(name for _, name in NAMES)}:
                await rpc.call("domain.define", xml=DOMAIN.format(name))
            for name in ("first one", "second", "seventh"):
                await rpc.call("snapshot.create", domain="test", xml=SNAPSHOT.format(name))
        yield running.config.socket


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def terminal(shell: str, socket: Path, tmp_path: Path) -> AsyncIterator[ShellTerminal]:
    """Return a shell that has run the script that is printed for it."""
    opened = await trio.to_thread.run_sync(ShellTerminal, shell, PRINTED[shell], tmp_path)
    yield opened
    opened.close()


async def completed(terminal: ShellTerminal, *lines: str) -> list[list[str]]:
    """Return the arguments that virtsnap is given for each line, after Tab and Return."""
    return await trio.to_thread.run_sync(lambda: [terminal.complete(line) for line in lines])


async def test_a_domains_name_reaches_the_command_as_it_is(terminal: ShellTerminal) -> None:
    found = await completed(terminal, *(f"virtsnap dominfo {typed}" for typed, _ in NAMES))
    assert [arguments[1:] for arguments in found] == [[name] for _, name in NAMES]


async def test_snapshots_of_the_domain_that_was_typed_are_offered(terminal: ShellTerminal) -> None:
    assert await completed(
        terminal,
        "virtsnap snapshot-info test f",
        "virtsnap snapshot-list test --from f",
        "virtsnap snapshot-list test --from=f",
        "virtsnap snapshot-list test --from='f",
        "virtsnap snapshot-revert --domain=test sec",
        "virtsnap snapshot-info nope f",
    ) == [
        ["snapshot-info", "test", "first one"],
        ["snapshot-list", "test", "--from", "first one"],
        ["snapshot-list", "test", "--from=first one"],
        ["snapshot-list", "test", "--from=first one"],
        ["snapshot-revert", "--domain=test", "second"],
        ["snapshot-info", "nope", "f"],
    ]


async def test_several_names_are_shown(terminal: ShellTerminal, shell: str) -> None:
    line = "virtsnap snapshot-info test s"
    terminal.type(
        f"complete -C '{line}'\n" if shell == "fish" else f"{line}\t\t\t"
    )  # its list needs a better terminal
    await trio.to_thread.run_sync(terminal.read_until, "second", "seventh")


async def test_the_global_options_say_which_daemon_is_asked(
    terminal: ShellTerminal, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await completed(
        terminal,
        "unset VIRTSNAP_SOCKET VIRTSNAP_URI 2>/dev/null; set -e VIRTSNAP_SOCKET 2>/dev/null; virtsnap uri",
        f"virtsnap --socket={socket} -c test:///default domstate pl",
        f"virtsnap -r --socket {socket} -c test:///d",
        f"virtsnap --socket {socket} --connect=test:",
        "virtsnap --quie",
    ) == [
        ["uri"],
        [f"--socket={socket}", "-c", "test:///default", "domstate", "plain"],
        ["-r", "--socket", str(socket), "-c", "test:///default"],
        ["--socket", str(socket), "--connect=test:///default"],
        ["--quiet"],
    ]


async def test_files_are_completed_also_below_the_home_folder(
    terminal: ShellTerminal, tmp_path: Path
) -> None:
    (tmp_path / "an image").mkdir()
    (tmp_path / "an image" / "vm.xml").touch()
    assert await completed(
        terminal,
        "virtsnap define an\tv",
        "virtsnap define ~/an\tv",
        "virtsnap snapshot-create test --xmlfile=an\tv",
    ) == [
        ["define", "an image/vm.xml"],
        ["define", f"{tmp_path}/an image/vm.xml"],
        ["snapshot-create", "test", "--xmlfile=an image/vm.xml"],
    ]


async def test_a_command_after_another_one_is_completed(terminal: ShellTerminal) -> None:
    assert await completed(terminal, "echo a 'b; c'; virtsnap dominfo pl", "true && virtsnap domin") == [
        ["dominfo", "plain"],
        ["dominfo"],
    ]


async def test_the_installed_file_does_the_same(shell: str, socket: Path, tmp_path: Path) -> None:
    terminal = await trio.to_thread.run_sync(ShellTerminal, shell, SHIPPED[shell], tmp_path)
    found = await completed(terminal, "virtsnap snapshot-info test f", "virtsnap dominfo pl")
    terminal.close()
    assert found == [["snapshot-info", "test", "first one"], ["dominfo", "plain"]]


def test_without_a_daemon_the_line_stays_as_it_is_and_nothing_is_said(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSNAP_SOCKET", "/nonexistent/none")
    terminal = ShellTerminal(shell, PRINTED[shell], tmp_path)
    terminal.type("virtsnap dominfo pl\t")
    assert terminal.complete("ain") == ["dominfo", "plain"]
    terminal.close()
    assert "error" not in terminal.screen


def asked(shell: str, line: str, **environment: str) -> tuple[int, str]:
    """Return exit status and answer when a script asks; nothing may be said elsewhere."""
    read, write = os.pipe()
    with os.fdopen(read) as answers:
        done = subprocess.run(
            ["bash", "-c", f'"$@" 8>&{write}', "bash", sys.executable, "-m", "virtsnap.cli"],
            env={
                **os.environ,
                "PYTHONPATH": ":".join(sys.path),
                "_ARGCOMPLETE": "1",
                "_ARGCOMPLETE_SHELL": shell,
                "COMP_LINE": line,
                "COMP_POINT": str(len(line)),
                **environment,
            },
            pass_fds=[write],
            capture_output=True,
            timeout=30,
            check=False,
        )
        os.close(write)
        assert (done.stdout, done.stderr) == (b"", b"")
        return done.returncode, answers.read()


def test_bash_is_told_names_and_the_others_what_they_are_too(daemon: FakeDaemon) -> None:
    assert asked("bash", "virtsnap dominfo ") == (0, "vm")
    assert asked("zsh", "virtsnap dominfo ") == (0, "vm\trunning")
    assert asked("fish", "virtsnap event --event ", _ARGCOMPLETE_IFS="\n") == (0, "lifecycle\nsnapshot")


def test_a_daemon_that_does_not_answer_is_given_up(daemon: FakeDaemon) -> None:
    for method in ("connection.open", "domain.list"):
        daemon.answers[method] = silent
    assert asked("bash", "virtsnap dominfo ", VIRTSNAP_URI="test:///default") == (1, "")


@pytest.mark.parametrize("line", ["virtsnap --bogus ", "virtsnap 'a", "x", ""])
def test_a_line_that_makes_no_sense_has_no_answer(shell: str, line: str) -> None:
    assert asked(shell, line)[1] == ""


def test_asking_changes_nothing_and_asks_only_for_names(daemon: FakeDaemon) -> None:
    asked("bash", "virtsnap snapshot-delete vm ", VIRTSNAP_URI="test:///default")
    assert daemon.names == ["connection.open", "snapshot.list"]


def test_nothing_that_takes_long_to_import_is_imported(daemon: FakeDaemon) -> None:
    line = "virtsnap dominfo "
    script = (
        "import sys; from virtsnap.cli.shell_completion import _answer; from virtsnap.cli.table import COMMANDS;"
        f"_answer(COMMANDS, {{'COMP_LINE': {line!r}, 'COMP_POINT': '{len(line)}'}});"
        "print(*{'trio', 'lxml', 'jsonschema', 'readline', 'asyncio'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout == b"\n"


@pytest.mark.parametrize(
    ("words", "prefix", "expected"),
    [
        ([], "snapshot-dele", ["snapshot-delete"]),
        ([], "--c", ["--connect"]),
        ([], "--connect=t", ["--connect=test:///default"]),
        ([], "--conn=t", ["--conn=test:///default"]),
        ([], "--quiet=", []),
        (["-q", "--connect"], "t", ["test:///default"]),
        (["-qc"], "t", ["test:///default"]),
        (["-c", "test:///default", "dominfo"], "", ["vm"]),
        (["-ctest:///default", "-q", "--json", "dominfo"], "", ["vm"]),
        (["--bogus"], "dom", []),
        (["--", "dominfo"], "v", ["vm"]),
    ],
)
def test_a_line_begins_with_global_options(
    daemon: FakeDaemon, words: list[str], prefix: str, expected: list[str]
) -> None:
    assert [name for name in candidates(COMMANDS, words, prefix) if name != "connect"] == expected


def test_the_hypervisor_of_the_line_is_asked(daemon: FakeDaemon) -> None:
    candidates(COMMANDS, ["-c", "qemu:///system", "dominfo"], "")
    assert [p.uri for name, p in daemon.asked if name == "connection.open"] == ["qemu:///system"]


def test_the_script_of_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 1
    assert capsys.readouterr().err == "error: unknown shell 'csh'; known are: bash, zsh, fish\n"

"""Real shells on a real terminal, and somebody who types; instead of running virtsnap they note its arguments."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE: Final = 30.0
PROMPT: Final = "READY> "

_VIRTSNAP: Final = """\
#!{python}
import json, os, sys
if "_ARGCOMPLETE" in os.environ or sys.argv[1:2] == ["completion"]:
    sys.path[:] = {path!r}
    from virtsnap.cli import __main__, shell_completion
    shell_completion.PATIENCE = {patience!r}
    sys.exit(__main__.main())
with open({noted!r}, "w") as file:
    json.dump(sys.argv[1:], file)
print("NOTED")
"""
_COMMANDS: Final = {
    "bash": (["bash", "--noprofile", "--rcfile", "{folder}/rc", "-i"], "rc", "PS1='{prompt}'\n{script}\n"),
    "zsh": (
        ["zsh", "-i"],
        ".zshrc",
        "unsetopt PROMPT_SP; PS1='{prompt}'; autoload -U compinit; compinit -u -D\n{script}\n",
    ),
    "fish": (
        ["fish", "-i"],
        "fish/config.fish",
        "function fish_prompt; echo -n '{prompt}'; end; set fish_greeting\n{script}\n",
    ),
}
"""How to start each, the file that it reads first, and what to put there."""


class ShellTerminal:
    """One shell that has run a script of ours."""

    def __init__(self, shell: str, script: str, folder: Path) -> None:
        self.screen = ""
        """Everything that has appeared."""
        self._noted = folder / "noted.json"
        command, settings, text = _COMMANDS[shell]
        (folder / "bin").mkdir()
        program = folder / "bin" / "virtsnap"
        program.write_text(
            _VIRTSNAP.format(python=sys.executable, path=sys.path, patience=PATIENCE, noted=str(self._noted))
        )
        program.chmod(0o755)
        # Where this folder is missing, fish makes completions of all manual pages, in the background.
        (folder / "fish" / "generated_completions").mkdir(parents=True)
        (folder / settings).write_text(text.format(prompt=PROMPT, script=script))
        environment = {
            **os.environ,
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "ZDOTDIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *(word.format(folder=folder) for word in command)],
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.read_until(PROMPT)

    def close(self) -> None:
        """End it."""
        os.close(self._ours)
        self.process.kill()
        self.process.wait()

    def type(self, text: str) -> None:
        """Type keys."""
        os.write(self._ours, text.encode())

    def read_until(self, *ends: str) -> str:
        """Return what appears on the screen until each of these was seen."""
        seen = b""
        while not all(end.encode() in seen for end in ends):
            ready, _, _ = select.select([self._ours], [], [], PATIENCE)
            assert ready, f"not all of {ends} in {seen!r}"
            seen += os.read(self._ours, 4096)
        self.screen += seen.decode(errors="replace")
        return seen.decode(errors="replace")

    def complete(self, typed: str) -> list[str]:
        """Return the arguments with which virtsnap is run for a line, Tab, Return."""
        self._noted.unlink(missing_ok=True)
        self.type(f"{typed}\t\n")
        self.read_until("NOTED", PROMPT)
        found: list[str] = json.loads(self._noted.read_text())
        return found

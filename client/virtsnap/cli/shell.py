"""Commands typed at a prompt, or read from standard input as a script."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnap.cli.completion import PATIENCE, completions
from virtsnap.cli.console import Console
from virtsnap.cli.grammar import unfinished
from virtsnap.cli.run import Quit, run_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WELCOME: Final = """\
Welcome to virtsnap, the snapshots' interactive terminal.

Type:  'help' for help with commands
       'quit' to quit

"""
HISTORY_LIMIT: Final = 500


def run_script(console: Console, lines: Iterable[str]) -> bool:
    """Run the commands of each line; return whether the last one succeeded."""
    succeeded = True
    for line in lines:
        if line.strip():
            try:
                succeeded = run_text(console, line)
            except Quit:
                break
    return succeeded


def run_prompt(console: Console) -> None:
    """Run what is typed until the user leaves."""
    console.interactive = True
    console.tell(WELCOME)
    with _line_editing(console):
        while True:
            prompt = "virtsnap > " if console.settings.read_only else "virtsnap # "
            try:
                run_text(console, input(prompt))
            except KeyboardInterrupt:
                console.out("\n")
            except EOFError:
                console.out("\n")
                return
            except Quit:
                return


@contextmanager
def _line_editing(console: Console) -> Iterator[None]:
    """Give the prompt a history and completion, where Python has readline."""
    try:
        import readline  # noqa: PLC0415 slow to import, and only of use here
    except ImportError:
        yield
        return
    history = _history_file()
    with suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LIMIT)
    readline.set_completer_delims(" \t;")
    readline.set_completer(Completer(console).complete)
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        with suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)


def _history_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "virtsnap" / "history"


class Completer:
    """What readline asks, one candidate at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._candidates: list[str] = []

    def complete(self, prefix: str, state: int) -> str | None:
        """Return the candidate of this number, or None when there are no more."""
        if state == 0:
            self._candidates = self._find(prefix)
        return self._candidates[state] if state < len(self._candidates) else None

    def _find(self, prefix: str) -> list[str]:
        import readline  # noqa: PLC0415 it is loaded: it calls this

        begin = readline.get_begidx()
        typed = readline.get_line_buffer()[:begin] + prefix
        words, last = unfinished(typed)
        if last.start > begin:  # within a comment
            return []
        found = list(self._names(words, last.text))
        # Readline's idea of a word knows no quotes: of ours it gets the part that it is about to replace.
        ends = [last.completed(typed[last.start :], name)[begin - last.start :] for name in found]
        return [f"{ends[0]} "] if len(found) == 1 and not found[0].endswith("/") else ends

    def _names(self, words: Sequence[str], prefix: str) -> dict[str, str]:
        """Ask on a connection that is not waited for, so that the prompt's own is left as it is."""
        asking = Console(self._console.settings, self._console.commands, timeout=PATIENCE)
        try:
            return completions(asking, words, prefix)
        finally:
            asking.disconnect()


def standard_input_is_typed() -> bool:
    """Return whether a person sits at standard input."""
    return sys.stdin is not None and sys.stdin.isatty()

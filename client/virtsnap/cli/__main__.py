"""The entry point: global options, then a command, several of them, a script, or a prompt."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Final

import virtsnap
from virtsnap.cli import global_options, shell_completion
from virtsnap.cli.console import Console
from virtsnap.cli.global_options import BadOption
from virtsnap.cli.help import usage
from virtsnap.cli.run import Quit, run_text, run_words
from virtsnap.cli.shell import run_prompt, run_script, standard_input_is_typed
from virtsnap.cli.table import COMMANDS

INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""As a shell reports a command that a signal ended."""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0 when the last command succeeded, else 1.

    130 after an interrupt, 141 when nobody reads the output any more.
    """
    if shell_completion.is_asked(os.environ):
        return shell_completion.answer_shell(COMMANDS)
    _accept_any_bytes()
    try:
        status = _main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except OSError as error:  # the disk that standard output goes to is full, for instance
        _discard_output()
        return _refuse(f"cannot write the output: {error.strerror}")
    return status


def _accept_any_bytes() -> None:
    """Let names that are not UTF-8 pass through (PEP 383) instead of ending in a traceback."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


def _discard_output() -> None:
    """Keep Python from flushing standard output once more at its end, and from complaining about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(argv: list[str]) -> int:
    try:
        options, words = global_options.parse(argv)
    except BadOption as error:
        return _refuse_options(str(error), argv)
    for name, _ in options:
        if name == "help":
            sys.stdout.write(usage(COMMANDS.values()))
            return 0
        if name == "version":
            sys.stdout.write(f"{virtsnap.__version__}\n")
            return 0
    settings = global_options.settings(options)
    console = Console(settings, COMMANDS, json=settings.json)
    try:
        return 0 if _run(console, words) else 1
    except Quit:
        return 0
    finally:
        console.disconnect()


def _refuse(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return 1


def _refuse_options(text: str, argv: list[str]) -> int:
    """Refuse global options; JSON is printed when it is asked for anywhere, as they cannot be told apart."""
    if "--json" in argv:
        sys.stdout.write(json.dumps({"error": {"message": text}}) + "\n")
        sys.stdout.flush()
    return _refuse(text)


def _run(console: Console, words: list[str]) -> bool:
    if len(words) == 1:
        return run_text(console, words[0])
    if words:
        return run_words(console, [words])
    if standard_input_is_typed():
        run_prompt(console)
        return True
    return run_script(console, sys.stdin)


if __name__ == "__main__":
    sys.exit(main())

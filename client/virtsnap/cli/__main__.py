"""The entry point: global options, then a command, several of them, a script, or a prompt."""

from __future__ import annotations

import getopt
import io
import json
import os
import sys
from typing import Final

import virtsnap
from virtsnap.cli.console import Console, Settings
from virtsnap.cli.help import USAGE, all_help
from virtsnap.cli.run import Quit, run_text, run_words
from virtsnap.cli.shell import run_prompt, run_script, standard_input_is_typed
from virtsnap.cli.table import COMMANDS

INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""As a shell reports a command that a signal ended."""

_SHORT: Final = "c:hqrtv"
_LONG: Final = ["connect=", "help", "quiet", "readonly", "timing", "version", "socket=", "json"]
_SPELLINGS: Final = {"c": "'-c'/'--connect'", "connect": "'-c'/'--connect'", "socket": "'--socket'"}


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0 when the last command succeeded, else 1.

    130 after an interrupt, 141 when nobody reads the output any more.
    """
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
        options, words = getopt.getopt(argv, _SHORT, _LONG)
    except getopt.GetoptError as error:
        if "requires argument" in error.msg:
            spelling = _SPELLINGS[error.opt if error.opt in _SPELLINGS else _completed(error.opt)]
            return _refuse_options(f"option {spelling} requires an argument", argv)
        dashes = "-" if len(error.opt) == 1 else "--"
        return _refuse_options(f"unsupported option '{dashes}{error.opt}'. See --help.", argv)
    settings = Settings()
    for name, value in options:
        if name in {"-h", "--help"}:
            sys.stdout.write(USAGE + all_help(COMMANDS.values()))
            return 0
        if name in {"-v", "--version"}:
            sys.stdout.write(f"{virtsnap.__version__}\n")
            return 0
        _apply(settings, name, value)
    console = Console(settings, COMMANDS, json=settings.json)
    try:
        return 0 if _run(console, words) else 1
    except Quit:
        return 0
    finally:
        console.disconnect()


def _completed(option: str) -> str:
    return next(name for name in _SPELLINGS if name.startswith(option))


def _refuse(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return 1


def _refuse_options(text: str, argv: list[str]) -> int:
    """Refuse global options; JSON is printed when it is asked for anywhere, as they cannot be told apart."""
    if "--json" in argv:
        sys.stdout.write(json.dumps({"error": {"message": text}}) + "\n")
        sys.stdout.flush()
    return _refuse(text)


def _apply(settings: Settings, name: str, value: str) -> None:
    match name:
        case "-c" | "--connect":
            settings.uri = value
        case "--socket":
            settings.socket = value
        case "-q" | "--quiet":
            settings.quiet = True
        case "-r" | "--readonly":
            settings.read_only = True
        case "-t" | "--timing":
            settings.timing = True
        case "--json":
            settings.json = True


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

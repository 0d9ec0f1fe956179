"""Completion in bash, zsh and fish: the command that prints the shells' scripts, and the answers to them.

A script calls virtsnap with the line that is being typed, as argcomplete's protocol has it: ``_ARGCOMPLETE`` is
set, ``COMP_LINE`` and ``COMP_POINT`` are the line and the cursor, the candidates are read from descriptor 8.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from virtsnap.cli import global_options
from virtsnap.cli.command import Command, CommandFailed, Option
from virtsnap.cli.completion import PATIENCE, completions, matching, names_of
from virtsnap.cli.console import Console
from virtsnap.cli.global_options import OPTIONS, BadOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtsnap.cli.command import Arguments
    from virtsnap.cli.global_options import GlobalOption

_PROGRAM: Final = "virtsnap"
_ANSWERS: Final = 8
"""The descriptor that the scripts read from."""
_SEPARATOR: Final = "\v"

# Not argcomplete's: that one hands over the whole line, where this command may be the second one or follow sudo,
# and quotes names itself, where zsh knows best which quote has been begun.
ZSH: Final = r"""#compdef virtsnap
_virtsnap() {
    local line="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" answer text
    local -a names texts folders
    for answer in "${(@ps:\v:)$(
        _ARGCOMPLETE=1 _ARGCOMPLETE_SHELL=zsh COMP_LINE="$line" COMP_POINT=${#line} \
            ${(Q)words[1]} 8>&1 9>&2 1>/dev/null 2>&1 </dev/null
    )}"; do
        text="${answer#*$'\t'}" answer="${answer%%$'\t'*}"
        if [[ $answer == */ ]]; then
            folders+=("$answer")
        elif [[ -n $answer ]]; then
            names+=("$answer")
            texts+=("$answer${text:+  -- $text}")
        fi
    done
    if [[ $PREFIX == '~/'* ]]; then  # zsh would take its own sign for a part of the name
        compset -P '\~/'
        folders=("${folders[@]#\~/}") names=("${names[@]#\~/}")
    fi
    compadd -S '' -a -- folders
    compadd -l -d texts -a -- names
}
compdef _virtsnap virtsnap
"""


def _completion(console: Console, arguments: Arguments) -> None:
    script = _script(arguments.required("shell"))
    console.out(script)
    console.result({"script": script})


def _script(shell: str) -> str:
    """Return what a shell is to run once to complete this command.

    Raises:
        CommandFailed: There is none for this shell.
    """
    from argcomplete.shell_integration import shellcode  # noqa: PLC0415 of no use to any other command

    match shell:
        case "bash":
            return shellcode([_PROGRAM], shell="bash", complete_arguments=["-o", "nospace"])  # noqa: S604 a name
        case "zsh":
            return ZSH
        case "fish":
            typed = "env (commandline -opc)[1]"
            return shellcode([_PROGRAM], shell="fish", argcomplete_script=typed)  # noqa: S604 a name
    raise CommandFailed(f"unknown shell '{shell}'; known are: {', '.join(SHELLS)}")


def is_asked(environment: Mapping[str, str]) -> bool:
    """Return whether a shell wants to know how a line could go on, instead of having it run."""
    return "_ARGCOMPLETE" in environment and "COMP_LINE" in environment


def answer_shell(commands: Mapping[str, Command]) -> int:
    """Write the candidates for the line in the environment; return the exit status.

    Nothing is ever printed to the terminal, and after a second the process is gone whatever it waits for.
    """
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        answer = _answer(commands, os.environ)
        with os.fdopen(_ANSWERS, "w", encoding="utf-8") as stream:
            stream.write(answer)
    except (OSError, ValueError):
        return 1  # no script of ours: it opened no such descriptor, or gave no number
    return 0


def _give_up(number: int, frame: object) -> NoReturn:
    os._exit(1)


def _answer(commands: Mapping[str, Command], environment: Mapping[str, str]) -> str:
    from argcomplete.finders import CompletionFinder  # noqa: PLC0415 of no use to a command that is run
    from argcomplete.lexers import split_line  # noqa: PLC0415

    shell = environment.get("_ARGCOMPLETE_SHELL", "bash")
    line, point = environment["COMP_LINE"], int(environment["COMP_POINT"])
    quote, prefix, _, words, cut = split_line(line, point)
    offered = candidates(commands, words[1:], prefix) if words else {}
    found = {name: what for name, what in offered.items() if name.isprintable()}
    names = list(found)
    if shell != "zsh":
        names = CompletionFinder(append_space=False).quote_completions(names, quote, cut)
    if shell == "bash":
        typed = _before_quote(line[:point], quote)
        names = [_bash_word(name, quote)[typed:] for name in names]
    else:
        names = [
            f"{name}\t{what}" if what else name for name, what in zip(names, found.values(), strict=True)
        ]
    return environment.get("_ARGCOMPLETE_IFS", _SEPARATOR).join(names)


def _before_quote(line: str, quote: str) -> int:
    """Return how much of the last word stands before the quote that it has open: bash takes that for another word."""
    from argcomplete.lexers import split_line  # noqa: PLC0415

    end = line.rfind(quote) if quote else -1
    while end > 0 and quote == '"' and line[end - 1] == "\\":
        end = line.rfind(quote, 0, end)
    return len(split_line(line[:end])[1]) if end > 0 else 0


def _bash_word(word: str, quote: str) -> str:
    """Return a word with what argcomplete leaves to bash, which gets it wrong."""
    if not quote and word.startswith("#"):
        return f"\\{word}"
    # Bash ends the quote that it finds open, unless the word ends in such a character.
    return word.removesuffix("'") if quote == "'" and word.endswith("'\\''") else word


def candidates(commands: Mapping[str, Command], words: list[str], prefix: str) -> dict[str, str]:
    """Return what could stand where `prefix` is being typed, after these words that follow the program's name.

    Names come from the hypervisor that the global options among the words mean.
    """
    awaited: GlobalOption | None = None
    try:
        given, rest = global_options.parse(words)
    except BadOption as error:
        awaited = error.awaited
        if awaited is None:
            return {}
        given, rest = global_options.parse(words[:-1])
    console = Console(global_options.settings(given), commands, timeout=PATIENCE)
    try:
        if awaited is not None:
            return _values(console, awaited, prefix)
        if rest or not prefix.startswith("-"):
            return _in_home(console, rest, prefix)
        name, equals, value = prefix.partition("=")
        option = global_options.find(name[2:]) if equals else None
        if option is not None:
            return {f"{name}={each}": what for each, what in _values(console, option, value).items()}
        return matching(prefix, {f"--{option.name}": option.summary for option in OPTIONS})
    finally:
        console.disconnect()


def _values(console: Console, option: GlobalOption, prefix: str) -> dict[str, str]:
    return matching(prefix, names_of(console, option.completes, prefix=prefix)) if option.completes else {}


def _in_home(console: Console, words: list[str], prefix: str) -> dict[str, str]:
    """As `completions`; ``~`` begins the name of a file as it does for the shell."""
    if not prefix.startswith("~/"):
        return completions(console, words, prefix)
    home = str(Path.home())
    found = completions(console, words, home + prefix[1:])
    return {f"~{name.removeprefix(home)}": what for name, what in found.items()}


SHELLS: Final = ("bash", "zsh", "fish")
COMMANDS: Final = (
    Command(
        name="completion",
        group="virtsnap",
        summary="print a script that lets a shell complete this command",
        description="Print what a shell is to run for the Tab key to complete commands, options and the names\n"
        'of domains and snapshots: in ~/.bashrc or ~/.zshrc eval "$(virtsnap completion bash)" or zsh,\n'
        "in ~/.config/fish/config.fish virtsnap completion fish | source.",
        options=(Option("shell", "text", "the shell", required=True, choices=SHELLS),),
        run=_completion,
    ),
)

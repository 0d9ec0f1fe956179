"""Commands that change domains: define, create, start, destroy, suspend, resume, shutdown, domrename."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, NAME_OR_UUID, XML_FILE, Command, CommandFailed, Option, explained
from virtsnap.cli.documents import read_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.method import Result
    from virtsnap_protocol.methods.domain import StartFlag

_PAUSED: Final = Option("paused", "flag", "do not let the guest run yet")
_VALIDATE: Final = Option("validate", "flag", "check the document against the schema")
_START_FLAGS: Final[tuple[StartFlag, ...]] = ("paused", "bypass-cache", "force-boot")
_MODES: Final = ("acpi", "agent", "initctl", "signal", "paravirt")
"""virsh's; only the first is ours."""


def _define(console: Console, arguments: Arguments) -> None:
    path = arguments.required("file")
    xml = read_document(path)
    with explained(f"Failed to define domain from {path}"):
        result = console.connection.define(xml, validate=arguments.flag("validate"))
    console.tell(f"Domain '{result.domain.name}' defined from {path}\n")
    console.result(result)


def _create(console: Console, arguments: Arguments) -> None:
    path = arguments.required("file")
    xml = read_document(path)
    with explained(f"Failed to create domain from {path}"):
        result = console.connection.create(
            xml, paused=arguments.flag("paused"), validate=arguments.flag("validate")
        )
    console.tell(f"Domain '{result.domain.name}' created from {path}\n")
    console.result(result)


def _start(console: Console, arguments: Arguments) -> None:
    # An id names a domain that runs: there is nothing to start.
    found = console.find(arguments.required("domain"), "uuid", "name")
    if found.id is not None:
        raise CommandFailed("Domain is already active")
    flags = [flag for flag in _START_FLAGS if arguments.flag(flag)]
    with explained(f"Failed to start domain '{found.name}'"):
        result = console.connection.domain(found.uuid).start(flags=flags)
    console.tell(f"Domain '{result.domain.name}' started\n")
    console.result(result)


def _rename(console: Console, arguments: Arguments) -> None:
    found = console.find(arguments.required("domain"), "uuid", "name")
    result = console.connection.domain(found.uuid).rename(arguments.required("new-name"))
    console.tell("Domain successfully renamed\n")
    console.result(result)


def _shutdown(console: Console, arguments: Arguments) -> None:
    name = arguments.required("domain")
    modes = (arguments.text("mode") or "acpi").split(",")
    for mode in modes:
        if mode not in _MODES:
            raise CommandFailed(
                f"Unknown mode {mode} value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'"
            )
    domain = console.domain(name)
    if others := [mode for mode in modes if mode != "acpi"]:
        domain.info()  # an unknown domain is told first
        raise CommandFailed(
            f"Failed to shutdown domain '{name}'",
            f"shutdown mode '{others[0]}' is not supported: the guest is asked through ACPI",
        )
    with explained(f"Failed to shutdown domain '{name}'"):
        result = domain.shutdown()
    console.tell(f"Domain '{name}' is being shutdown\n")
    console.result(result)


def _act(
    act: Callable[[BlockingDomain], Result], word: str, done: str
) -> Callable[[Console, Arguments], None]:
    """Return what runs a command that only names a domain."""

    def run(console: Console, arguments: Arguments) -> None:
        name = arguments.required("domain")
        with explained(f"Failed to {word} domain '{name}'"):
            result = act(console.domain(name))
        console.tell(f"Domain '{name}' {done}\n")
        console.result(result)

    return run


COMMANDS: Final = (
    Command(
        name="define",
        group="domain",
        summary="define a domain from an XML file, without starting it",
        description="Make a domain persistent, or change its definition.",
        options=(XML_FILE, _VALIDATE),
        run=_define,
    ),
    Command(
        name="create",
        group="domain",
        summary="run a transient domain from an XML file",
        description="Run a domain that is forgotten when it stops.",
        options=(XML_FILE, _PAUSED, _VALIDATE),
        run=_create,
    ),
    Command(
        name="start",
        group="domain",
        summary="start an inactive domain",
        description="Start a domain that was defined before. One with a managed save goes on from there.",
        options=(
            NAME_OR_UUID,
            _PAUSED,
            Option("bypass-cache", "flag", "read a managed save without filling the host's cache"),
            Option("force-boot", "flag", "discard a managed save and boot"),
        ),
        run=_start,
    ),
    Command(
        name="destroy",
        group="domain",
        summary="stop a domain at once",
        description="Stop a domain as if its plug were pulled. Its disks and its definition stay.",
        options=(
            DOMAIN,
            Option("graceful", "flag", "accepted for scripts: an orderly end is always tried first"),
        ),
        run=_act(lambda domain: domain.destroy(), "destroy", "destroyed"),
    ),
    Command(
        name="suspend",
        group="domain",
        summary="pause a running domain",
        description="Stop the virtual CPUs; the guest keeps its memory.",
        options=(DOMAIN,),
        run=_act(lambda domain: domain.suspend(), "suspend", "suspended"),
    ),
    Command(
        name="resume",
        group="domain",
        summary="let a paused domain run on",
        description="Let the virtual CPUs of a suspended domain run on.",
        options=(DOMAIN,),
        run=_act(lambda domain: domain.resume(), "resume", "resumed"),
    ),
    Command(
        name="shutdown",
        group="domain",
        summary="ask a guest to shut down",
        description="Ask the guest to shut down, and do not wait for it.",
        options=(DOMAIN, Option("mode", "text", "how to ask", choices=("acpi",))),
        run=_shutdown,
    ),
    Command(
        name="domrename",
        group="domain",
        summary="give a domain another name",
        description="Rename an inactive domain. Its UUID and its snapshots stay.",
        options=(NAME_OR_UUID, Option("new-name", "text", "the name it is to have", required=True)),
        run=_rename,
    ),
)

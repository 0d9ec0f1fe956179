"""Commands that change domains: define, create, start, destroy, undefine, suspend, resume, shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, XML_FILE, Command, CommandFailed, Option, explained
from virtsnap.cli.documents import read_document
from virtsnap_protocol.errors import DomainNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.method import Result

_PAUSED: Final = Option("paused", "flag", "do not let the guest run yet")


def _define(console: Console, arguments: Arguments) -> None:
    path = arguments.required("file")
    xml = read_document(path)
    with explained(f"Failed to define domain from {path}"):
        result = console.connection.define(xml)
    console.tell(f"Domain '{result.domain.name}' defined from {path}\n")
    console.result(result)


def _create(console: Console, arguments: Arguments) -> None:
    path = arguments.required("file")
    xml = read_document(path)
    with explained(f"Failed to create domain from {path}"):
        result = console.connection.create(xml, paused=arguments.flag("paused"))
    console.tell(f"Domain '{result.domain.name}' created from {path}\n")
    console.result(result)


def _start(console: Console, arguments: Arguments) -> None:
    name = arguments.required("domain")
    domain = console.domain(name)
    found = domain.info().domain
    if name not in {found.name, found.uuid}:  # an id names a running domain: there is nothing to start
        raise DomainNotFound(name)
    if found.id is not None:
        raise CommandFailed("Domain is already active")
    with explained(f"Failed to start domain '{found.name}'"):
        result = domain.start(paused=arguments.flag("paused"))
    console.tell(f"Domain '{result.domain.name}' started\n")
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


def _undefine(console: Console, arguments: Arguments) -> None:
    name = arguments.required("domain")
    with explained(f"Failed to undefine domain '{name}'"):
        result = console.domain(name).undefine(snapshots_metadata=arguments.flag("snapshots-metadata"))
    console.tell(f"Domain '{name}' has been undefined\n")
    console.result(result)


COMMANDS: Final = (
    Command(
        name="define",
        group="domain",
        summary="define a domain from an XML file, without starting it",
        description="Make a domain persistent, or change its definition.",
        options=(XML_FILE,),
        run=_define,
    ),
    Command(
        name="create",
        group="domain",
        summary="run a transient domain from an XML file",
        description="Run a domain that is forgotten when it stops.",
        options=(XML_FILE, _PAUSED),
        run=_create,
    ),
    Command(
        name="start",
        group="domain",
        summary="start an inactive domain",
        description="Start a domain that was defined before.",
        options=(
            DOMAIN,
            _PAUSED,
            Option("bypass-cache", "flag", "accepted for scripts: there are no managed saves"),
            Option("force-boot", "flag", "accepted for scripts: there are no managed saves"),
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
        name="undefine",
        group="domain",
        summary="forget the definition of a domain",
        description="Forget an inactive domain; make an active one transient.",
        options=(
            DOMAIN,
            Option("managed-save", "flag", "accepted for scripts: there are no managed saves"),
            Option("snapshots-metadata", "flag", "forget its snapshots as well (inactive domains)"),
            Option("checkpoints-metadata", "flag", "accepted for scripts: there are no checkpoints"),
        ),
        run=_undefine,
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
        options=(DOMAIN,),
        run=_act(lambda domain: domain.shutdown(), "shutdown", "is being shutdown"),
    ),
)

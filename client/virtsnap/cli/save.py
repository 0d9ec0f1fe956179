"""Commands on saved states: save, restore, managedsave, managedsave-remove."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, Option, explained
from virtsnap.cli.documents import current_folder, read_document

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods.save import SaveFlag

_FLAGS: Final[tuple[SaveFlag, ...]] = ("bypass-cache", "running", "paused")
_XML: Final = Option("xml", "text", "refused: another definition cannot be given", completes="file")
_NO_XML: Final = "a domain goes on with the definition it was saved with"
_VERBOSE: Final = Option("verbose", "flag", "tell when the state is written")


def _flags(arguments: Arguments) -> list[SaveFlag]:
    return [flag for flag in _FLAGS if arguments.flag(flag)]


def _absolute(path: str) -> str:
    """Return the path as the daemon sees it, whose folder is another; links stay for it to follow."""
    if path.startswith("/"):
        return path
    return os.path.join(current_folder(), path)  # noqa: PTH118 a Path would lose `..` and double slashes


def _done(console: Console, arguments: Arguments, label: str) -> None:
    """Tell as virsh does that nothing is left to do; the daemon tells no progress before."""
    if arguments.flag("verbose"):
        console.note(f"\r{label}: [100 %]")


def _save(console: Console, arguments: Arguments) -> None:
    name, path = arguments.required("domain"), arguments.required("file")
    domain = console.domain(name)
    domain.info()  # an unknown domain is told before a file that is not there
    if (file := arguments.text("xml")) is not None:
        read_document(file)
        arguments.refuse("xml", _NO_XML)
    with explained(f"Failed to save domain '{name}' to {path}"):
        result = domain.save(_absolute(path), flags=_flags(arguments))
    _done(console, arguments, "Save")
    console.tell(f"\nDomain '{name}' saved to {path}\n")
    console.result(result)


def _restore(console: Console, arguments: Arguments) -> None:
    path = arguments.required("file")
    if (file := arguments.text("xml")) is not None:
        read_document(file)
        arguments.refuse("xml", _NO_XML)
    with explained(f"Failed to restore domain from {path}"):
        result = console.connection.restore(_absolute(path), flags=_flags(arguments))
    console.tell(f"Domain restored from {path}\n")
    console.result(result)


def _managed_save(console: Console, arguments: Arguments) -> None:
    name = arguments.required("domain")
    with explained(f"Failed to save domain '{name}' state"):
        result = console.domain(name).managed_save(flags=_flags(arguments))
    _done(console, arguments, "Managedsave")
    console.tell(f"\nDomain '{name}' state saved by libvirt\n")  # its word, which scripts read
    console.result(result)


def _remove(console: Console, arguments: Arguments) -> None:
    name = arguments.required("domain")
    domain = console.domain(name)
    if not domain.info().domain.managed_save:
        console.tell(f"Domain '{name}' has no manage save image; removal skipped")
        console.result({"removed": False})
        return
    with explained(f"Failed to remove managed save image for domain '{name}'"):
        domain.remove_managed_save()
    console.tell(f"Removed managedsave image for domain '{name}'")
    console.result({"removed": True})


COMMANDS: Final = (
    Command(
        name="save",
        group="domain",
        summary="save the state of a domain to a file",
        description="Write the memory of a running domain to a file on the daemon's host, and stop the domain.",
        options=(
            DOMAIN,
            Option("file", "text", "file to write", required=True, completes="file"),
            Option("bypass-cache", "flag", "write without filling the host's cache"),
            _XML,
            Option("running", "flag", "let the guest run after restore"),
            Option("paused", "flag", "leave the guest paused after restore"),
            _VERBOSE,
        ),
        run=_save,
    ),
    Command(
        name="restore",
        group="domain",
        summary="let a domain go on from a saved state",
        description="Let the domain go on whose state save wrote to a file.",
        options=(
            Option("file", "text", "file that save wrote", required=True, completes="file"),
            Option("bypass-cache", "flag", "read without filling the host's cache"),
            _XML,
            Option("running", "flag", "let the guest run"),
            Option("paused", "flag", "leave the guest paused"),
        ),
        run=_restore,
    ),
    Command(
        name="managedsave",
        group="domain",
        summary="save the state of a domain for its next start",
        description="Save the memory of a running domain and stop it; its next start goes on from there.",
        options=(
            DOMAIN,
            Option("bypass-cache", "flag", "write without filling the host's cache"),
            Option("running", "flag", "let the guest run after the next start"),
            Option("paused", "flag", "leave the guest paused after the next start"),
            _VERBOSE,
        ),
        run=_managed_save,
    ),
    Command(
        name="managedsave-remove",
        group="domain",
        summary="remove the managed save of a domain",
        description="Forget the state that managedsave saved; the next start boots.",
        options=(DOMAIN,),
        run=_remove,
    ),
)

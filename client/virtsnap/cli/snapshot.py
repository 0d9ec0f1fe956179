"""Commands on one snapshot: dumpxml, info, current, parent, revert, delete."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, CommandFailed, Option, explained
from virtsnap.cli.render import fields
from virtsnap.cli.xpath import OPTIONS as XPATH_OPTIONS
from virtsnap.cli.xpath import print_document
from virtsnap_protocol.errors import RevertRisky, SnapshotNotFound

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.methods.snapshot import CreateFlag

NAME: Final = Option("snapshotname", "text", "name of a snapshot", completes="snapshot")


def chosen_snapshot(domain: BlockingDomain, arguments: Arguments, option: str = "snapshotname") -> str:
    """Return the name of the snapshot meant by a name or by ``--current``, of which exactly one is to be given.

    Raises:
        CommandFailed: Both were given, or none.
        SnapshotNotFound: There is no current snapshot.
    """
    name = arguments.text(option)
    current = arguments.flag("current")
    if name is not None and not current:
        return name
    if name is None and current:
        return domain.current_snapshot().snapshot.name
    domain.info()  # as in virsh, an unknown domain is told first
    if current:
        raise CommandFailed(f"--{option} and --current are mutually exclusive")
    raise CommandFailed(f"--{option} or --current is required")


def _dumpxml(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    result = domain.snapshot(arguments.required("snapshotname")).xml(secure=arguments.flag("security-info"))
    print_document(console, arguments, result)


def _info(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    result = domain.snapshot(chosen_snapshot(domain, arguments)).info()
    found = result.snapshot
    values = {
        "Name": found.name,
        "Domain": domain.info().domain.name,
        "Current": _yes(found.current),
        "State": found.state,
        "Location": found.location,
        "Parent": found.parent or "-",
        "Children": str(found.children),
    }
    if found.descendants is not None:
        values["Descendants"] = str(found.descendants)
    values["Metadata"] = _yes(found.has_metadata)
    console.out(fields(values))
    console.result(result)


def _yes(truth: bool) -> str:  # noqa: FBT001 the value itself
    return "yes" if truth else "no"


def _current(console: Console, arguments: Arguments) -> None:
    arguments.exclude("name", "snapshotname")
    typed = arguments.required("domain")
    domain = console.domain(typed)
    if (name := arguments.text("snapshotname")) is not None:
        _set_current(console, domain, name)
        return
    try:
        found = domain.current_snapshot().snapshot
    except SnapshotNotFound as error:
        raise CommandFailed(f"domain '{typed}' has no current snapshot") from error
    if arguments.flag("name"):
        console.out(found.name)
        console.result({"name": found.name})
        return
    result = domain.snapshot(found.name).xml(secure=arguments.flag("security-info"))
    console.out(result.xml)
    console.result(result)


def _set_current(console: Console, domain: BlockingDomain, name: str) -> None:
    """Make a snapshot the current one by redefining it from its own document, as virsh does."""
    snapshot = domain.snapshot(name)
    flags: list[CreateFlag] = ["redefine", "current"]
    if snapshot.info().snapshot.state == "disk-snapshot":
        flags.append("disk-only")
    result = domain.create_snapshot(snapshot.xml(secure=True).xml, flags=flags)
    console.tell(f"Snapshot {name} set as current")
    console.result(result)


def _parent(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    name = chosen_snapshot(domain, arguments)
    parent = domain.snapshot(name).info().snapshot.parent
    if parent is None:
        raise CommandFailed(f"snapshot '{name}' has no parent")
    console.out(parent)
    console.result({"name": parent})


def _revert(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    name = chosen_snapshot(domain, arguments)
    snapshot = domain.snapshot(name)
    revert = partial(
        snapshot.revert,
        running=arguments.flag("running"),
        paused=arguments.flag("paused"),
        reset_nvram=arguments.flag("reset-nvram"),
    )
    with explained(f"Failed to revert snapshot {name}"):
        try:
            result = revert()
        except RevertRisky:
            if not arguments.flag("force"):
                raise
            result = revert(force=True)
    console.tell(f"Domain snapshot {name} reverted\n")
    console.result(result)


def _delete(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    name = chosen_snapshot(domain, arguments)
    with explained(f"Failed to delete snapshot {name}"):
        result = domain.snapshot(name).delete(
            children=arguments.flag("children"),
            children_only=arguments.flag("children-only"),
            metadata_only=arguments.flag("metadata"),
        )
    what = f"{name} children" if arguments.flag("children-only") else name
    console.tell(f"Domain snapshot {what} deleted\n")
    console.result(result)


COMMANDS: Final = (
    Command(
        name="snapshot-dumpxml",
        group="snapshot",
        summary="document of a snapshot",
        description="Print a snapshot's document. One that is to be redefined needs --security-info.",
        options=(
            DOMAIN,
            Option("snapshotname", "text", "name of a snapshot", required=True, completes="snapshot"),
            Option("security-info", "flag", "with its secrets"),
            *XPATH_OPTIONS,
        ),
        run=_dumpxml,
    ),
    Command(
        name="snapshot-info",
        group="snapshot",
        summary="describe a snapshot",
        description="Show what is known of a snapshot at a glance.",
        options=(DOMAIN, NAME, Option("current", "flag", "the current snapshot")),
        run=_info,
    ),
    Command(
        name="snapshot-current",
        group="snapshot",
        summary="show or set the current snapshot",
        description="Print the document of the current snapshot; with a name, make that one current.\n"
        "Nothing is reverted.",
        options=(
            DOMAIN,
            Option("name", "flag", "print its name only"),
            Option("security-info", "flag", "with its secrets"),
            Option("snapshotname", "text", "snapshot to make current", completes="snapshot"),
        ),
        run=_current,
    ),
    Command(
        name="snapshot-parent",
        group="snapshot",
        summary="name of a snapshot's parent",
        description="Print the name of the parent of a snapshot.",
        options=(DOMAIN, NAME, Option("current", "flag", "of the current snapshot")),
        run=_parent,
    ),
    Command(
        name="snapshot-revert",
        group="snapshot",
        summary="go back to a snapshot",
        description="Bring a domain back to the state that a snapshot saved.",
        options=(
            DOMAIN,
            NAME,
            Option("current", "flag", "to the current snapshot"),
            Option("running", "flag", "let the guest run afterwards"),
            Option("paused", "flag", "leave the guest paused afterwards"),
            Option("force", "flag", "accept the risks that a first attempt is refused for"),
            Option("reset-nvram", "flag", "begin with the firmware's variables as they are delivered"),
        ),
        run=_revert,
    ),
    Command(
        name="snapshot-delete",
        group="snapshot",
        summary="delete a snapshot",
        description="Delete a snapshot; its children become those of its parent.",
        options=(
            DOMAIN,
            NAME,
            Option("current", "flag", "the current snapshot"),
            Option("children", "flag", "with all its descendants"),
            Option("children-only", "flag", "only all its descendants"),
            Option("metadata", "flag", "only what the daemon remembers of it"),
        ),
        run=_delete,
    ),
)

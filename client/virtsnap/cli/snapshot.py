"""Commands on snapshots: create, create-as, dumpxml, info, current, parent, revert, delete; listing is elsewhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, CommandFailed, Option, explained
from virtsnap.cli.documents import read_document
from virtsnap.cli.render import fields
from virtsnap.cli.specs import disk_spec, memory_spec
from virtsnap.document import snapshot_document
from virtsnap_protocol.errors import RevertRisky, SnapshotNotFound

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.methods.snapshot import CreateFlag

_NAME: Final = Option("snapshotname", "text", "name of a snapshot", completes="snapshot")
_CREATE_FLAGS: Final[dict[str, CreateFlag]] = {
    "redefine": "redefine",
    "current": "current",
    "no-metadata": "no-metadata",
    "halt": "halt",
    "disk-only": "disk-only",
    "reuse-external": "reuse-ext",
    "quiesce": "quiesce",
    "atomic": "atomic",
    "live": "live",
    "validate": "validate",
}
_CREATE_OPTIONS: Final = (
    Option("no-metadata", "flag", "take the snapshot and remember nothing of it"),
    Option("halt", "flag", "leave the domain stopped"),
    Option("disk-only", "flag", "save the disks and not the memory"),
    Option("reuse-external", "flag", "use files that exist already"),
    Option("quiesce", "flag", "have the guest settle its file systems first"),
    Option("atomic", "flag", "change nothing if it cannot be done whole"),
    Option("live", "flag", "let the guest run meanwhile"),
    Option("validate", "flag", "check the document against the schema"),
)


def chosen_snapshot(domain: BlockingDomain, arguments: Arguments, option: str = "snapshotname") -> str:
    """Return the name of the snapshot meant by a name or by ``--current``, of which exactly one is to be given.

    Raises:
        CommandFailed: Both were given, or none.
        SnapshotNotFound: There is no current snapshot.
    """
    name = arguments.text(option)
    if name is not None and arguments.flag("current"):
        raise CommandFailed(f"--{option} and --current are mutually exclusive")
    if name is not None:
        return name
    if not arguments.flag("current"):
        raise CommandFailed(f"--{option} or --current is required")
    return domain.current_snapshot().snapshot.name


def _create_flags(arguments: Arguments) -> list[CreateFlag]:
    return [flag for option, flag in _CREATE_FLAGS.items() if arguments.flag(option)]


def _create(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    path = arguments.text("xmlfile")
    if path is None:
        xml, origin = "<domainsnapshot/>", ""
    else:
        domain.info()  # an unknown domain is told before an unreadable file
        xml, origin = read_document(path), f" from '{path}'"
    result = domain.create_snapshot(xml, flags=_create_flags(arguments))
    console.tell(f"Domain snapshot {result.snapshot.name} created{origin}")
    console.result(result)


def _create_as(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    print_only = arguments.flag("print-xml")
    memory = arguments.text("memspec")
    name, description = arguments.text("name"), arguments.text("description")
    if print_only or memory or arguments.flag("diskspec"):
        domain.info()  # an unknown domain is told before a specification that is not understood
    xml = snapshot_document(
        name,
        description,
        memory=memory_spec(memory) if memory else None,
        disks=[disk_spec(text) for text in arguments.many("diskspec")],
    )
    if print_only:
        console.out(f"{xml}\n")
        console.result({"xml": xml})
        return
    result = domain.create_snapshot(xml, flags=_create_flags(arguments))
    console.tell(f"Domain snapshot {result.snapshot.name} created")
    console.result(result)


def _dumpxml(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    result = domain.snapshot(arguments.required("snapshotname")).xml(secure=arguments.flag("security-info"))
    console.out(result.xml)
    console.result(result)


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
        name="snapshot-create",
        group="snapshot",
        summary="take a snapshot, or record one, from an XML file",
        description="Take the snapshot that a document describes; without one, let the daemon choose.\n"
        "With --redefine nothing is taken: the document of a snapshot that exists is recorded.",
        options=(
            DOMAIN,
            Option(
                "xmlfile", "text", "file with a snapshot's document, - for standard input", completes="file"
            ),
            Option("redefine", "flag", "record the metadata of a snapshot that exists"),
            Option("current", "flag", "with --redefine: make it the current one"),
            *_CREATE_OPTIONS,
        ),
        run=_create,
    ),
    Command(
        name="snapshot-create-as",
        group="snapshot",
        summary="take a snapshot described by options",
        description="Take a snapshot without writing a document.",
        options=(
            DOMAIN,
            Option("name", "text", "name of the snapshot"),
            Option("description", "text", "what it is for"),
            Option("print-xml", "flag", "only print the document"),
            *_CREATE_OPTIONS,
            Option("memspec", "text", "memory: [file=]name[,snapshot=type]", named_only=True),
            Option("diskspec", "many", "disk: disk[,snapshot=type][,driver=type][,stype=type][,file=name]"),
        ),
        run=_create_as,
    ),
    Command(
        name="snapshot-dumpxml",
        group="snapshot",
        summary="document of a snapshot",
        description="Print a snapshot's document. One that is to be redefined needs --security-info.",
        options=(
            DOMAIN,
            Option("snapshotname", "text", "name of a snapshot", required=True, completes="snapshot"),
            Option("security-info", "flag", "with its secrets"),
        ),
        run=_dumpxml,
    ),
    Command(
        name="snapshot-info",
        group="snapshot",
        summary="describe a snapshot",
        description="Show what is known of a snapshot at a glance.",
        options=(DOMAIN, _NAME, Option("current", "flag", "the current snapshot")),
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
        options=(DOMAIN, _NAME, Option("current", "flag", "of the current snapshot")),
        run=_parent,
    ),
    Command(
        name="snapshot-revert",
        group="snapshot",
        summary="go back to a snapshot",
        description="Bring a domain back to the state that a snapshot saved.",
        options=(
            DOMAIN,
            _NAME,
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
            _NAME,
            Option("current", "flag", "the current snapshot"),
            Option("children", "flag", "with all its descendants"),
            Option("children-only", "flag", "only all its descendants"),
            Option("metadata", "flag", "only what the daemon remembers of it"),
        ),
        run=_delete,
    ),
)

"""The commands snapshot-create and snapshot-create-as: from a document, or from options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, Option
from virtsnap.cli.documents import read_document
from virtsnap.cli.specs import disk_spec, memory_spec
from virtsnap.document import snapshot_document

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods.snapshot import CreateFlag

_FLAGS: Final[dict[str, CreateFlag]] = {
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
_OPTIONS: Final = (
    Option("no-metadata", "flag", "take the snapshot and remember nothing of it"),
    Option("halt", "flag", "leave the domain stopped"),
    Option("disk-only", "flag", "save the disks and not the memory"),
    Option("reuse-external", "flag", "use files that exist already"),
    Option("quiesce", "flag", "have the guest settle its file systems first"),
    Option("atomic", "flag", "change nothing if it cannot be done whole"),
    Option("live", "flag", "let the guest run meanwhile"),
    Option("validate", "flag", "check the document against the schema"),
)


def _flags(arguments: Arguments) -> list[CreateFlag]:
    return [flag for option, flag in _FLAGS.items() if arguments.flag(option)]


def _create(console: Console, arguments: Arguments) -> None:
    domain = console.domain(arguments.required("domain"))
    path = arguments.text("xmlfile")
    if path is None:
        xml, origin = "<domainsnapshot/>", ""
    else:
        domain.info()  # an unknown domain is told before an unreadable file
        xml, origin = read_document(path), f" from '{path}'"
    result = domain.create_snapshot(xml, flags=_flags(arguments))
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
    result = domain.create_snapshot(xml, flags=_flags(arguments))
    console.tell(f"Domain snapshot {result.snapshot.name} created")
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
            *_OPTIONS,
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
            *_OPTIONS,
            Option("memspec", "text", "memory: [file=]name[,snapshot=type]", named_only=True),
            Option("diskspec", "many", "disk: disk[,snapshot=type][,driver=type][,stype=type][,file=name]"),
        ),
        run=_create_as,
    ),
)

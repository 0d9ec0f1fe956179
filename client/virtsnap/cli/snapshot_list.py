"""The command snapshot-list: as a table, as names, or as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, CommandFailed, Option
from virtsnap.cli.render import local_time, table, tree
from virtsnap.cli.snapshot import chosen_snapshot

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap_protocol.methods.snapshot import ListFlag, SnapshotInfo

_FLAGS: Final[tuple[ListFlag, ...]] = (
    "roots",
    "metadata",
    "leaves",
    "no-leaves",
    "no-metadata",
    "inactive",
    "active",
    "disk-only",
    "internal",
    "external",
    "topological",
)
_NOT_IN_A_TREE: Final = ("leaves", "no-leaves", "inactive", "active", "disk-only", "internal", "external")
_EXCLUSIONS: Final = (
    ("tree", "name"),
    ("parent", "roots"),
    ("parent", "tree"),
    ("roots", "tree"),
    ("roots", "from"),
    ("roots", "current"),
)


def _list(console: Console, arguments: Arguments) -> None:
    _check(arguments)
    domain = console.domain(arguments.required("domain"))
    limited = arguments.flag("from") or arguments.flag("current")
    start = chosen_snapshot(domain, arguments, "from") if limited else None
    found = domain.snapshots(
        of=start,
        descendants=arguments.flag("descendants"),
        flags=[flag for flag in _FLAGS if arguments.flag(flag)],
    ).snapshots
    if not arguments.flag("topological"):
        found = sorted(found, key=lambda snapshot: snapshot.name.encode("utf-8", "surrogateescape").lower())
    if arguments.flag("tree"):
        roots: dict[str, str | None] = {start: None} if start is not None else {}
        console.out(tree({**roots, **{snapshot.name: snapshot.parent for snapshot in found}}))
    elif arguments.flag("name"):
        console.out("".join(f"{snapshot.name}\n" for snapshot in found))
    else:
        _print_table(console, found, parents=arguments.flag("parent"))
    console.result({"snapshots": found})


def _check(arguments: Arguments) -> None:
    """Refuse what contradicts itself, in virsh's order (cmdSnapshotList)."""
    for one, other in _EXCLUSIONS:
        arguments.exclude(one, other)
    for option in _NOT_IN_A_TREE:
        if arguments.flag(option) and arguments.flag("tree"):
            raise CommandFailed(f"--{option} and --tree are mutually exclusive")
    if arguments.flag("descendants") and not (arguments.flag("from") or arguments.flag("current")):
        raise CommandFailed("--descendants requires either --from or --current")


def _print_table(console: Console, found: list[SnapshotInfo], *, parents: bool) -> None:
    header = ["Name", "Creation Time", "State"]
    rows = [[snapshot.name, local_time(snapshot.creation_time), snapshot.state] for snapshot in found]
    if parents:
        header.append("Parent")
        for row, snapshot in zip(rows, found, strict=True):
            row.append(snapshot.parent or "")
    console.out(table(header, rows, bare=console.settings.quiet))


COMMANDS: Final = (
    Command(
        name="snapshot-list",
        group="snapshot",
        summary="list the snapshots of a domain",
        description="List snapshots by name, or those that the options ask for.",
        options=(
            DOMAIN,
            Option("parent", "flag", "show the parent of each as well"),
            Option("roots", "flag", "only snapshots without a parent"),
            Option("leaves", "flag", "only snapshots without children"),
            Option("no-leaves", "flag", "only snapshots with children"),
            Option("metadata", "flag", "only snapshots that the daemon keeps metadata of"),
            Option("no-metadata", "flag", "only snapshots that the hypervisor alone knows"),
            Option("inactive", "flag", "only snapshots of the domain shut off"),
            Option("active", "flag", "only snapshots with the memory of a running domain"),
            Option("disk-only", "flag", "only snapshots of disks without memory"),
            Option("internal", "flag", "only snapshots inside the images"),
            Option("external", "flag", "only snapshots in files of their own"),
            Option("tree", "flag", "draw the hierarchy"),
            Option("from", "text", "only the children of this snapshot", completes="snapshot"),
            Option("current", "flag", "only the children of the current snapshot"),
            Option("descendants", "flag", "with --from or --current: all below, not the children only"),
            Option("name", "flag", "print the names only"),
            Option("topological", "flag", "parents before their children instead of by name"),
        ),
        run=_list,
    ),
)

"""The command undefine: forget a definition, and what may go along with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import DOMAIN, Command, CommandFailed, Option, explained
from virtsnap_protocol.errors import InvalidFlags

if TYPE_CHECKING:
    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console
    from virtsnap.domain import BlockingDomain
    from virtsnap_protocol.method import Empty
    from virtsnap_protocol.methods.domain import DomainInfo, UndefineFlag

_FIRMWARE: Final[tuple[UndefineFlag, ...]] = ("nvram", "keep-nvram", "tpm", "keep-tpm")
_NO_POOLS: Final = "there are no storage pools; remove the images yourself once the domain is undefined"


def _undefine(console: Console, arguments: Arguments) -> None:
    _check(arguments)
    name = arguments.required("domain")
    domain = console.domain(name)
    found = domain.info().domain
    for option in ("storage", "remove-all-storage"):
        arguments.refuse(option, _NO_POOLS)
    asked = arguments.flag("managed-save") or arguments.flag("nvram")
    if found.managed_save and not (asked or found.snapshots):
        # virsh's words and its conditions; the daemon refuses by itself, with more of them.
        raise CommandFailed("Refusing to undefine while domain managed save image exists")
    with explained(f"Failed to undefine domain '{name}'"):
        result = _ask(domain, _flags(found, arguments))
    console.tell(f"Domain '{name}' has been undefined\n")
    console.result(result)


def _check(arguments: Arguments) -> None:
    """Refuse what contradicts itself, in virsh's order and words (cmdUndefine)."""
    if arguments.flag("delete-storage-volume-snapshots") and not arguments.flag("remove-all-storage"):
        raise CommandFailed(
            "Option --remove-all-storage is required by option --delete-storage-volume-snapshots"
        )
    arguments.exclude("nvram", "keep-nvram")
    arguments.exclude("tpm", "keep-tpm")
    if arguments.flag("wipe-storage") and not (
        arguments.flag("storage") or arguments.flag("remove-all-storage")
    ):
        raise CommandFailed("'--wipe-storage' requires '--storage <string>' or '--remove-all-storage'")


def _flags(found: DomainInfo, arguments: Arguments) -> list[UndefineFlag]:
    """Return what was asked for without what cannot matter: a driver may not know it (as virsh does).

    An active domain keeps everything; there are never checkpoints.
    """
    matters: dict[UndefineFlag, bool] = {
        "managed-save": found.managed_save,
        "snapshots-metadata": found.id is None and found.snapshots > 0,
        **dict.fromkeys(_FIRMWARE, True),
    }
    return [flag for flag, matter in matters.items() if matter and arguments.flag(flag)]


def _ask(domain: BlockingDomain, flags: list[UndefineFlag]) -> Empty:
    """Undefine; a driver that knows no firmware has none to keep, and no TPM to remove (as virsh does)."""
    try:
        return domain.undefine(flags=flags)
    except InvalidFlags:
        known = [flag for flag in flags if flag not in _FIRMWARE]
        if known == flags or "nvram" in flags:
            raise
        return domain.undefine(flags=known)


COMMANDS: Final = (
    Command(
        name="undefine",
        group="domain",
        summary="forget the definition of a domain",
        description="Forget an inactive domain; make an active one transient. The images stay.",
        options=(
            DOMAIN,
            Option("managed-save", "flag", "remove its managed save as well"),
            Option("storage", "text", "refused: there are no storage pools to remove volumes from"),
            Option("remove-all-storage", "flag", "refused likewise"),
            Option("delete-storage-volume-snapshots", "flag", "refused likewise"),
            Option("wipe-storage", "flag", "refused likewise"),
            Option("snapshots-metadata", "flag", "forget its snapshots as well (inactive domains)"),
            Option("checkpoints-metadata", "flag", "accepted for scripts: there are no checkpoints"),
            Option("nvram", "flag", "remove its NVRAM file"),
            Option("keep-nvram", "flag", "keep its NVRAM file"),
            Option("tpm", "flag", "remove the state of its TPM"),
            Option("keep-tpm", "flag", "keep the state of its TPM"),
        ),
        run=_undefine,
    ),
)

"""Golden pairs of the QEMU driver: a domain as a user writes it (`.xml`) and the arguments that start it (`.args`).

``make regenerate`` and ``pytest --regenerate`` write the second from the first; a human then looks at the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.arguments import command_line
from virtsnapd.drivers.qemu.pinning import pin
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from collections.abc import Callable

DATA: Final = Path(__file__).parent.parent / "data" / "qemu"
MACHINES: Final = {"pc": "pc-i440fx-7.2", "q35": "pc-q35-7.2"}
CASES: Final = sorted(path.stem for path in DATA.glob("*.xml"))


def numbered_macs() -> Callable[[], str]:
    """Return a source of MAC addresses that begins anew for each test."""
    return iter([f"52:54:00:00:00:{number:02x}" for number in range(256)]).__next__


def defined(text: str) -> DomainDefinition:
    """Return the definition as the driver keeps it."""
    return pin(DomainDefinition.parse(text), MACHINES, "pc", numbered_macs(), emulator="/usr/bin/qemu")


def given(case: str) -> str:
    """Return the domain of a pair."""
    return (DATA / f"{case}.xml").read_text()


def expected(case: str) -> str:
    """Return the arguments of a pair, a line for each option."""
    return (DATA / f"{case}.args").read_text()


def produced(case: str) -> str:
    """Return what the program makes of the domain of a pair, a line for each option."""
    definition = defined(given(case))
    arguments = command_line(
        definition,
        emulator="/usr/bin/qemu",
        accel="kvm" if definition.type == "kvm" else "tcg",
        monitor_sockets=["/sockets/one, monitor.sock", "/sockets/two.sock"],
        paused=True,
        socket_dir="/sockets",
    )
    return "".join(f"\n{word}" if word.startswith("-") else f" {word}" for word in arguments).strip() + "\n"


def regenerate() -> None:
    """Write the arguments of every pair anew."""
    for case in CASES:
        (DATA / f"{case}.args").write_text(produced(case))

"""The drivers; this table is the only place that lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.drivers.qemu.driver import QemuDriver
from virtsnapd.drivers.simulated.driver import SimulatedDriver

if TYPE_CHECKING:
    from virtsnapd.drivers.api import Driver

DRIVERS: Final[dict[str, type[Driver]]] = {
    "test": SimulatedDriver,
    "qemu": QemuDriver,
}
"""Driver classes by the scheme of their URIs."""

URIS: Final[dict[str, tuple[str, ...]]] = {
    "test": ("test:///default",),
    "qemu": ("qemu:///system", "qemu:///session"),
}
"""The URIs of each scheme. A daemon of root serves the first, a user's the last; both words mean the same there."""

__all__ = ["DRIVERS", "URIS"]

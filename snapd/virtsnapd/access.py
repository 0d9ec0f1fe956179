"""Who may do what: the caller's identity, and what the read-only socket refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from virtsnap_protocol.errors import OperationDenied

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The process at the other end, as the kernel vouched for it when it connected (SO_PEERCRED)."""

    uid: int
    gid: int
    pid: int
    read_only: bool
    """It came through the read-only socket."""

    @override
    def __str__(self) -> str:
        """Return what others are told of it, for instance as the holder of a busy domain."""
        return f"uid {self.uid}, process {self.pid}"


def require_write(caller: Caller, method: str) -> None:
    """Refuse a change over the read-only socket.

    Raises:
        OperationDenied: libvirt's VIR_ERR_OPERATION_DENIED, naming the method.
    """
    if caller.read_only:
        raise OperationDenied(
            f"read only access prevents {method}", remedy="connect to the read-write socket instead"
        )


def require_secrets(caller: Caller, method: str, flags: Collection[str]) -> None:
    """Refuse secrets over the read-only socket (virDomainSnapshotGetXMLDesc with secure flag).

    Raises:
        OperationDenied: The flag ``secure`` was given.
    """
    if caller.read_only and "secure" in flags:
        raise OperationDenied(f"{method} with secure flag", remedy="connect to the read-write socket instead")

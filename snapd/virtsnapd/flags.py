"""What is wrong with the flags of a call, in the words of libvirt's macros (virCheckFlags and its kin).

libvirt's messages about flags that contradict each other name its constants, and scripts look for them: `prefix` is
what a constant begins with, for instance ``VIR_DOMAIN_SNAPSHOT_CREATE_``, or "" for flags that libvirt has no
constants for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtsnap_protocol.errors import InvalidFlags

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def exclude(flags: Collection[str], one: str, other: str, prefix: str) -> None:
    """Refuse two flags together (VIR_EXCLUSIVE_FLAGS_RET).

    Raises:
        InvalidFlags: Both are given.
    """
    if one in flags and other in flags:
        names = f"'{_constant(prefix, one)}' and '{_constant(prefix, other)}'"
        raise InvalidFlags(f"Flags {names} are mutually exclusive")


def require_with(flags: Collection[str], flag: str, needed: str, prefix: str) -> None:
    """Refuse a flag without another that it needs (VIR_REQUIRE_FLAG_RET).

    Raises:
        InvalidFlags: It is given alone.
    """
    if flag in flags and needed not in flags:
        names = f"'{_constant(prefix, needed)}' is required by flag '{_constant(prefix, flag)}'"
        raise InvalidFlags(f"Flag {names}")


def require_supported(flags: Iterable[str], supported: Collection[str], method: str) -> None:
    """Refuse what a driver does not honour (virCheckFlags); libvirt names the driver's function, we the method.

    Raises:
        InvalidFlags: Naming those flags alone.
    """
    refused = [flag for flag in flags if flag not in supported]
    if refused:
        raise InvalidFlags(f"unsupported flags ({', '.join(refused)}) in method {method}")


def _constant(prefix: str, flag: str) -> str:
    return prefix + flag.upper().replace("-", "_") if prefix else flag

"""What a client is told when it is refused, on the wire and by the client library; and ladders of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from virtsnap_protocol.errors import Error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tests.support.rpc import Rpc


class Refusal(NamedTuple):
    """What scripts look at: libvirt's number, the stable word, and the text as virsh shows it after `error: `."""

    code: int
    kind: str
    message: str


def flags_refused(message: str) -> Refusal:
    """Return libvirt's refusal of flags, which has no prefix."""
    return Refusal(8, "invalid-flags", message)


def xml_refused(message: str) -> Refusal:
    """Return the refusal of a document's content."""
    return Refusal(27, "xml-error", f"XML error: {message}")


def argument_refused(message: str) -> Refusal:
    """Return the refusal of an argument."""
    return Refusal(8, "invalid-argument", f"invalid argument: {message}")


def config_refused(message: str) -> Refusal:
    """Return the refusal of a configuration."""
    return Refusal(67, "config-unsupported", f"unsupported configuration: {message}")


def internal_error(message: str) -> Refusal:
    """Return libvirt's catch-all."""
    return Refusal(1, "internal-error", f"internal error: {message}")


def not_found(message: str) -> Refusal:
    """Return the answer to a question for a snapshot that is not there."""
    return Refusal(72, "no-domain-snapshot", f"Domain snapshot not found: {message}")


def invalid_now(message: str) -> Refusal:
    """Return the refusal of what the state of things does not allow."""
    return Refusal(55, "operation-invalid", f"Requested operation is not valid: {message}")


async def refusal(rpc: Rpc, method: str, /, **params: object) -> Refusal:
    """Make a call that is to fail; return what the daemon writes."""
    frame = await rpc.answer(await rpc.begin(method, **params))
    assert "error" in frame, f"{method} succeeded: {frame}"
    error = frame["error"]
    return Refusal(error["code"], error["data"]["kind"], error["message"])


async def raised(call: Callable[[], Awaitable[object]]) -> Refusal:
    """Make a call of the client library that is to fail, there or here; return what it raises."""
    with pytest.raises(Error) as caught:
        await call()
    return Refusal(caught.value.code, caught.value.kind, str(caught.value))


Rungs = dict[str, Refusal]
"""Faults that one request can have, in the order in which libvirt looks for them, and the refusal of each."""


def ladder(rungs: Rungs, *, without: Iterable[str] = ()) -> list[Any]:
    """Return, for each rung, the faults of a request that has this one and all later ones, and the first's refusal.

    `without` names rungs that are left out of the requests that begin with an earlier one.
    """
    names = list(rungs)
    return [
        pytest.param(
            frozenset(f for f in names[i:] if f == name or f not in without),
            rungs[name],
            id=name.replace(" ", "-"),
        )
        for i, name in enumerate(names)
    ]

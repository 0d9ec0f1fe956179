"""How a call ends, whatever kind of connection it was made on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from virtsnap_protocol.errors import ConnectionLost, DeadlineExceeded, InternalFault, InvalidArgument

if TYPE_CHECKING:
    from virtsnap_protocol.method import Method, Params, Result
    from virtsnap_protocol.session import ClientSession, Reply

P = TypeVar("P", bound="Params")
R = TypeVar("R", bound="Result")


def request(session: ClientSession, method: Method[P, R], params: P) -> tuple[int, bytes]:
    """Return the id and the frame of a new request.

    Raises:
        InvalidArgument: A text among the parameters is not Unicode, for instance a file name in another encoding.
    """
    try:
        return session.call(method, params)
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"a parameter of {method.name} is not valid Unicode", cause=str(error)
        ) from None


def result_of(method: Method[P, R], reply: Reply) -> R:
    """Return what the daemon answered.

    Raises:
        Error: What the daemon raised.
        InternalFault: The answer does not have the method's shape.
    """
    if reply.error is not None:
        raise reply.error
    try:
        return method.decode_result.decode(reply.result or b"{}")
    except msgspec.MsgspecError as error:
        raise InternalFault(
            f"the daemon's answer to {method.name} is not understood",
            cause=str(error),
            remedy="client and daemon differ in version; see: virtsnap version --daemon",
        ) from error


def lost(detail: str, *, maybe_applied: bool = False, cause: str | None = None) -> ConnectionLost:
    """Return the error of a call whose connection has ended."""
    error = ConnectionLost(detail, cause=cause)
    error.maybe_applied = maybe_applied
    return error


def too_late(method: Method[P, R], seconds: float, *, maybe_applied: bool) -> DeadlineExceeded:
    """Return the error of a call that was not answered in time."""
    error = DeadlineExceeded(f"no answer to {method.name} within {seconds:g} s")
    error.maybe_applied = maybe_applied
    return error

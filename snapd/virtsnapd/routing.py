"""How a handler is tied to its method, so that the type checker sees both.

A handler that only reads memory is a plain function: it answers at once, inside the task that reads the socket,
which is what makes a small call cheap. A handler that waits is a coroutine function, and gets a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from virtsnap_protocol.method import Method, Params, Result
from virtsnapd.context import Context

P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)
Handler: TypeAlias = Callable[[Context, P], R | Coroutine[Any, Any, R]]


@dataclass(frozen=True)
class Route:
    """A method and what answers it."""

    method: Method[Any, Any]
    handler: Handler[Any, Any]


def handles(method: Method[P, R]) -> Callable[[Handler[P, R]], Route]:
    """Make a function the handler of `method`; the type checker sees that parameters and result agree."""
    return lambda handler: Route(method, handler)

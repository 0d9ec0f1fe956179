"""Verbs: methods that are written once and serve both kinds of connection.

A verb builds the parameters of a call. Looked up on something whose `call` is asynchronous it returns an
awaitable of the call's result, on something whose `call` blocks it returns the result itself; a type checker
knows which::

    class DomainVerbs:
        @verb(domain.START)
        def start(self, *, paused: bool = False) -> domain.StartParams: ...

    class Domain(DomainVerbs, Handle): ...                  # await vm.start(paused=True)
    class BlockingDomain(DomainVerbs, BlockingHandle): ...  # vm.start(paused=True)
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from virtsnap_protocol.method import Params, Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from virtsnap_protocol.method import Method

A = ParamSpec("A")
P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)


class Caller(Protocol):
    """What calls can be awaited on."""

    async def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call and return its result."""


class BlockingCaller(Protocol):
    """What calls can be made on by waiting."""

    def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call and return its result."""


class Handle:
    """Names something behind a trio connection. Making one asks the daemon nothing."""

    def __init__(self, connection: Caller) -> None:
        self._connection = connection
        self._deadline: float | None = None

    def within(self, seconds: float) -> Self:
        """Return the same handle, each call of which fails with DeadlineExceeded after so many seconds."""
        twin = copy.copy(self)
        twin._deadline = seconds  # noqa: SLF001 of its own class
        return twin

    async def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call on the connection."""
        return await self._connection.call(
            method, params, deadline=self._deadline if deadline is None else deadline
        )


class BlockingHandle:
    """Names something behind a blocking connection. Making one asks the daemon nothing."""

    def __init__(self, connection: BlockingCaller) -> None:
        self._connection = connection
        self._deadline: float | None = None

    def within(self, seconds: float) -> Self:
        """Return the same handle, each call of which fails with DeadlineExceeded after so many seconds."""
        twin = copy.copy(self)
        twin._deadline = seconds  # noqa: SLF001 of its own class
        return twin

    def call(self, method: Method[P, R], params: P, *, deadline: float | None = None) -> R:
        """Make a call on the connection."""
        return self._connection.call(
            method, params, deadline=self._deadline if deadline is None else deadline
        )


class Verb(Generic[A, P, R]):
    """A method of a handle: what it calls, and how its arguments become parameters."""

    def __init__(self, method: Method[P, R], build: Callable[Concatenate[Any, A], P]) -> None:
        self.method = method
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Caller, owner: type) -> Callable[A, Awaitable[R]]: ...
    @overload
    def __get__(self, instance: BlockingCaller, owner: type) -> Callable[A, R]: ...
    def __get__(self, instance: Caller | BlockingCaller | None, owner: type) -> object:
        """Return the verb bound to a handle."""
        return self if instance is None else functools.partial(self._call, instance)

    def _call(
        self, instance: Caller | BlockingCaller, /, *args: A.args, **kwargs: A.kwargs
    ) -> Awaitable[R] | R:
        return instance.call(self.method, self._build(instance, *args, **kwargs))


def verb(method: Method[P, R]) -> Callable[[Callable[Concatenate[Any, A], P]], Verb[A, P, R]]:
    """Make a function that builds a call's parameters into a verb."""

    def decorate(build: Callable[Concatenate[Any, A], P]) -> Verb[A, P, R]:
        return Verb(method, build)

    return decorate

"""One lock per domain: who is changing it, since when, and what others are told meanwhile."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from virtsnap_protocol.errors import DomainBusy, DomainNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The operation that holds a domain."""

    job: str
    """The method, or what the daemon does by itself."""
    who: str
    since: int
    """Seconds since the epoch."""
    long: bool
    """It works on data or processes; a change of metadata alone takes one flush of the disk."""


class DomainLock:
    """Serialises the changes of one domain; reading never takes it.

    A change that finds a *long* operation at work, or next in turn, is refused at once and told what holds the
    domain; behind a change of metadata it waits its turn (first come, first served), since that turn comes within
    milliseconds.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.holder: Holder | None = None
        self.debt: Callable[[], Awaitable[None]] | None = None
        """What must be made good before anything else may be changed: an outcome that is not recorded yet."""
        self.gone = False
        """The domain does not exist any more: whoever still waits has come too late."""
        self._long: Holder | None = None
        self._lock = trio.Lock()

    @asynccontextmanager
    async def hold(self, job: str, *, who: str, long: bool) -> AsyncIterator[None]:
        """Hold the domain for a change asked for by a caller.

        Raises:
            DomainBusy: A long operation holds it.
            StorageError: The outcome of an earlier change can still not be recorded.
            DomainNotFound: The domain ended while its turn was awaited.
        """
        self._refuse_behind_long()
        holder = Holder(job=job, who=who, since=int(time.time()), long=long)
        if long:
            self._long = holder
        try:
            async with self._lock:
                if self.gone:
                    raise self._went()
                with _Held(self, holder):
                    await self._pay()
                    if self.gone:  # a transient domain whose guest turned out to have ended
                        raise self._went()
                    yield
        finally:
            if self._long is holder:
                self._long = None

    @asynccontextmanager
    async def wait(self, job: str) -> AsyncIterator[None]:
        """Hold the domain for what must be done, however long that takes to get."""
        holder = Holder(job=job, who="virtsnapd", since=int(time.time()), long=False)
        async with self._lock:
            with _Held(self, holder):
                await self._pay()
                yield

    async def _pay(self) -> None:
        debt, self.debt = self.debt, None
        if debt is not None:
            try:
                await debt()
            except BaseException:
                self.debt = self.debt or debt  # what it still owes, where it says so: not all of it again
                raise
            self.debt = None

    def _went(self) -> DomainNotFound:
        return DomainNotFound(f"no domain with matching name '{self.domain}'", domain=self.domain)

    def _refuse_behind_long(self) -> None:
        holder = self._long
        if holder is not None:
            raise DomainBusy(
                f"cannot acquire state change lock (held by {holder.job})",
                domain=self.domain,
                details={"job": holder.job, "since": holder.since, "holder": holder.who},
                remedy="try again when that operation has ended",
            )


class _Held:
    def __init__(self, lock: DomainLock, holder: Holder) -> None:
        self._lock = lock
        self._holder = holder

    def __enter__(self) -> None:
        self._lock.holder = self._holder

    def __exit__(self, *_exception: object) -> None:
        self._lock.holder = None

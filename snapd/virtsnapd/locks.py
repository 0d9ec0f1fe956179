"""One lock per domain: who is changing it, since when, and what others are told meanwhile."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from virtsnap_protocol.errors import DomainBusy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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

    A change that finds a *long* operation at work is refused at once and told what holds the domain; behind a
    change of metadata it waits its turn (first come, first served), since that turn comes within milliseconds.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.holder: Holder | None = None
        self._lock = trio.Lock()

    @asynccontextmanager
    async def hold(self, job: str, *, who: str, long: bool) -> AsyncIterator[None]:
        """Hold the domain for a change asked for by a caller.

        Raises:
            DomainBusy: A long operation holds it.
        """
        self._refuse_behind_long()
        async with self._lock:
            self._refuse_behind_long()
            with self._held(job, who=who, long=long):
                yield

    @asynccontextmanager
    async def wait(self, job: str) -> AsyncIterator[None]:
        """Hold the domain for the daemon's own bookkeeping, however long that takes to get."""
        async with self._lock:
            with self._held(job, who="virtsnapd", long=False):
                yield

    def _held(self, job: str, *, who: str, long: bool) -> _Held:
        return _Held(self, Holder(job=job, who=who, since=int(time.time()), long=long))

    def _refuse_behind_long(self) -> None:
        holder = self.holder
        if holder is not None and holder.long:
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

"""How the note of an operation ends: with an outcome that is recorded, at once or as soon as the store takes it.

Whatever works on data or guests writes down what it is about to do, and the note is struck out in the transaction
that records what came of it. What cannot be recorded is owed (`DomainLock.debt`): it is made good before anything
else of the domain is changed, or when the daemon starts again. The caller holds the domain's lock.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from virtsnap_protocol.errors import Error, StorageError
from virtsnapd.store import Transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from virtsnapd.context import Hypervisor
    from virtsnapd.domain import Domain

log = logging.getLogger(__name__)


async def record(domain: Domain, commit: Callable[[], Awaitable[None]]) -> None:
    """Record what has been done already; what cannot be recorded now is owed.

    Raises:
        StorageError: It is owed.
    """
    try:
        await commit()
    except StorageError as error:
        domain.lock.debt = domain.lock.debt or commit
        error.remedy = (
            "it is done; make room on the disk: it is recorded before the next change of the domain"
        )
        raise


async def end(hypervisor: Hypervisor, domain: Domain) -> None:
    """Strike out the note of an operation that has left nothing to record.

    Raises:
        StorageError: It is owed.
    """
    transaction = Transaction()
    hypervisor.domains.end(transaction, domain)
    await record(domain, partial(hypervisor.domains.commit, transaction))


async def give_up(hypervisor: Hypervisor, domain: Domain, what: str, why: Exception, advice: str) -> None:
    """Leave word on the domain that an interrupted operation can neither be completed nor undone; its note ends.

    Raises:
        StorageError: It is owed.
    """
    told = f"{what} was interrupted and cannot be settled: {why}"
    if isinstance(why, Error) and why.remedy:
        told += f" ({why.remedy})"
    log.error("%s: %s", domain.name, told)
    transaction = Transaction()
    hypervisor.domains.attention(transaction, domain, f"{told}; {advice}")
    hypervisor.domains.end(transaction, domain)
    await record(domain, partial(hypervisor.domains.commit, transaction))

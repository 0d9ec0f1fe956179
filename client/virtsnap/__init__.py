"""Talk to virtsnapd: snapshots of virtual machines, from scripts (`connect`) and from trio (`open_connection`).

::

    import virtsnap

    with virtsnap.connect("qemu:///system") as connection:
        vm = connection.domain("vm")
        taken = vm.take("before-upgrade")
        saved = vm.snapshot(taken.snapshot.name).xml(secure=True).xml

Every method of a handle exists once and serves both kinds of connection: on a blocking one it returns the
result, on a trio one it returns something to await. All errors are classes of `virtsnap.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from virtsnap.blocking import BlockingConnection, BlockingEventStream, connect
from virtsnap.domain import BlockingDomain, Domain
from virtsnap.events import LostEvents
from virtsnap.snapshot import BlockingSnapshot, Snapshot
from virtsnap_protocol import errors
from virtsnap_protocol.errors import Error
from virtsnap_protocol.methods.event import Event, Filter, Position

if TYPE_CHECKING:
    from virtsnap.connection import Connection, EventStream, open_connection

__version__: Final = "0.1.0"

__all__ = [  # noqa: RUF022 ordered by importance, as a reader wants them
    "connect",
    "open_connection",
    "BlockingConnection",
    "Connection",
    "BlockingDomain",
    "Domain",
    "BlockingSnapshot",
    "Snapshot",
    "BlockingEventStream",
    "EventStream",
    "Event",
    "LostEvents",
    "Position",
    "Filter",
    "Error",
    "errors",
]

_LAZY: Final = frozenset({"open_connection", "Connection", "EventStream"})
"""What would import trio, which costs a script several times the rest of its start."""


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module("virtsnap.connection"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

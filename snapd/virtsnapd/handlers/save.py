"""Saved states: lock, ask, answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import NoSupport
from virtsnap_protocol.methods import save as methods
from virtsnapd.routing import handles

if TYPE_CHECKING:
    from virtsnap_protocol.method import Empty
    from virtsnap_protocol.methods.domain import InfoResult
    from virtsnapd.context import Context


@handles(methods.CREATE)
async def create(context: Context, params: methods.CreateParams) -> Empty:
    """Write a domain's memory to a file and end its guest."""
    raise NoSupport(methods.CREATE.name)


@handles(methods.RESTORE)
async def restore(context: Context, params: methods.RestoreParams) -> InfoResult:
    """Let a domain go on from a file."""
    raise NoSupport(methods.RESTORE.name)


@handles(methods.MANAGE)
async def manage(context: Context, params: methods.ManageParams) -> Empty:
    """Save a domain so that its next start goes on from there."""
    raise NoSupport(methods.MANAGE.name)


@handles(methods.DISCARD)
async def discard(context: Context, params: methods.DomainParams) -> Empty:
    """Remove a domain's managed save."""
    raise NoSupport(methods.DISCARD.name)


ROUTES: Final = (create, restore, manage, discard)

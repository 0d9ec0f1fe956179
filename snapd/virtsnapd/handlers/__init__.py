"""What answers each method, one noun per file. This table is the only place that lists the handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.handlers import connection, domain, event, save, snapshot

if TYPE_CHECKING:
    from virtsnapd.routing import Route

HANDLERS: Final[tuple[Route, ...]] = (
    *connection.ROUTES,
    *domain.ROUTES,
    *save.ROUTES,
    *snapshot.ROUTES,
    *event.ROUTES,
)

__all__ = ["HANDLERS"]

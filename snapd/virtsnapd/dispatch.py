"""From a call to its handler: found, permitted, decoded, called; and what becomes of a defect."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from virtsnap_protocol.errors import InternalFault, MethodNotFound
from virtsnapd.access import require_write
from virtsnapd.validation import explain

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from virtsnap_protocol.messages import Call
    from virtsnap_protocol.method import Method, Result
    from virtsnapd.context import Context
    from virtsnapd.routing import Route

log = logging.getLogger(__name__)

NO_PARAMS: Final = b"{}"


class Dispatcher:
    """Finds, checks, decodes and calls."""

    def __init__(self, routes: Iterable[Route], methods: Iterable[Method[Any, Any]]) -> None:
        routes = tuple(routes)
        self._routes = {route.method.name: route for route in routes}
        wanted, given = {method.name for method in methods}, set(self._routes)
        if wanted != given or len(routes) != len(given):
            raise TypeError(
                f"methods and handlers differ: {sorted(wanted ^ given) or 'a method has two handlers'}"
            )

    def call(self, context: Context, call: Call) -> Result | Coroutine[Any, Any, Result]:
        """Return the answer, or what will produce it.

        Raises:
            MethodNotFound: No such method.
            OperationDenied: A change over the read-only socket.
            InvalidParams: Every violation, with its path.
            Error: The handler's refusal.
        """
        route = self._routes.get(call.method)
        if route is None:
            raise MethodNotFound(f"no method '{call.method}'", remedy="rpc.discover lists the methods")
        method = route.method
        if not method.reads:
            require_write(context.caller, method.name)
        params = NO_PARAMS if call.params is None else call.params
        try:
            decoded = method.decode_params.decode(params)
        except (
            ValueError,
            RecursionError,
        ) as error:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
            raise explain(method, bytes(params), str(error)) from error
        if not method.reads:
            log.info("%s%s, by %s", method.name, _subject(decoded), context.caller)
        answer: Result | Coroutine[Any, Any, Result] = route.handler(context, decoded)
        return answer

    def is_change(self, call: Call) -> bool:
        """Whether the call changes something, so that it is carried through though its caller vanishes."""
        route = self._routes.get(call.method)
        return route is not None and not route.method.reads


def _subject(params: object) -> str:
    """Return which domain and snapshot a change is about, for the log."""
    named = (getattr(params, name, None) for name in ("domain", "snapshot"))
    return "".join(f" {name!r}" for name in named if name is not None)


def unforeseen(call: Call, error: Exception) -> InternalFault:
    """Log a defect with its traceback; return what the caller is told: a reference, no details."""
    reference = secrets.token_hex(4)
    log.error("defect %s in %s", reference, call.method, exc_info=error)
    return InternalFault(
        f"defect of the daemon; its log has the details under {reference}",
        details={"reference": reference},
        remedy="please report it with the log's lines",
    )

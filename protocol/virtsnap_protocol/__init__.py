"""The contract between the daemon and its clients: what can be said, and how it looks on the wire.

Nothing here does I/O, waits or looks at a clock; both ends import it, and it imports neither. Its parts:

* `methods`: every call, one noun per file; `METHODS` is the table of them. `method`: what a call is made of.
* `errors`: everything that can go wrong, as exceptions that cross the wire unchanged.
* `session`: the two ends of a conversation as state machines; beneath it `messages`, `requests` and
  `replies` (JSON-RPC 2.0) and `framing` (one JSON text per line).
* `schema` and `export`: JSON Schemas and the OpenRPC document, derived from the types. Not imported here:
  they serve the daemon's `rpc.discover`, its validation, and the files in `schemas` and `openrpc.json`.
"""

from __future__ import annotations

from virtsnap_protocol import errors
from virtsnap_protocol.errors import Error
from virtsnap_protocol.framing import FRAME_LIMIT, LineFramer
from virtsnap_protocol.messages import Call, Cancel, Notice
from virtsnap_protocol.method import Method, Params, Result
from virtsnap_protocol.methods import METHODS, NOTIFICATIONS
from virtsnap_protocol.session import ClientSession, Reply, ServerSession, notify

__all__ = [  # noqa: RUF022 ordered by importance, as a reader wants them
    "METHODS",
    "NOTIFICATIONS",
    "Method",
    "Params",
    "Result",
    "Error",
    "errors",
    "ClientSession",
    "Reply",
    "Notice",
    "ServerSession",
    "Call",
    "Cancel",
    "notify",
    "LineFramer",
    "FRAME_LIMIT",
]

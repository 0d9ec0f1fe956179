"""The taxonomy of everything that can go wrong; the same classes are raised by the daemon and by the client.

::

    Error
     +-- ProtocolError                       about the conversation: JSON-RPC's own negative codes
     |    +-- ParseError            -32700   not JSON
     |    +-- InvalidRequest        -32600   JSON, but not JSON-RPC
     |    +-- MethodNotFound        -32601
     |    +-- InvalidParams         -32602   `problems` lists every violation with its path
     |    +-- InternalFault         -32603   a defect of the daemon: nothing but a reference to its log
     |    +-- FrameTooLong          -32001   the peer's line exceeds the limit; the connection ends
     |    +-- TooBusy               -32002   too many requests in flight
     |    +-- Cancelled             -32800   the caller asked for it ($/cancelRequest)
     |    +-- ConnectionLost        -32003   raised by the client only; knows whether the call may be applied
     |    +-- DeadlineExceeded      -32004   raised by the client only
     +-- RequestError                        understood and refused: libvirt's own numbers (virErrorNumber)
          +-- InternalError              1   the catch-all: malformed-but-parsed XML, hypervisor surprises
          |    +-- HypervisorError       1   the hypervisor said no; its words are in `cause`
          ...

A class says which libvirt error it is (`code`), which prefix libvirt puts before the detail (`prefix`, from
src/util/virerror.c), and the stable word that programs compare (`kind`). An instance carries the detail and
the facts. `str(error)` is what a virsh user would see after ``error: ``.
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One violation of many: where it is and what is wrong there."""

    path: str
    """JSON path (``$.flags[0]``), XPath-like path of an element, or a setting's dotted name."""
    message: str
    old: str | None = None
    """What was there, where the violation is a difference."""
    new: str | None = None
    """What the refused document has in its place."""


class ErrorData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `data` member of an error on the wire."""

    kind: str
    retryable: bool = False
    domain: str | None = None
    snapshot: str | None = None
    path: str | None = None
    problems: list[Problem] = []
    cause: str | None = None
    remedy: str | None = None
    details: dict[str, str | int | bool | None] = {}
    """Facts that belong to this kind alone, for instance `holder` and `since` of a busy domain."""


class ErrorObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """JSON-RPC's error object (JSON-RPC 2.0, section 5.1)."""

    code: int
    message: str
    data: ErrorData | msgspec.Raw | None = None


class Error(Exception):
    """Root of the taxonomy; never raised itself."""

    kind: str = "error"
    """The stable word; like the two below it belongs to the class, except in errors of kinds unknown here."""
    code: int = 0
    retryable: bool = False
    prefix: ClassVar[str] = ""

    def __init__(
        self,
        detail: str,
        *,
        domain: str | None = None,
        snapshot: str | None = None,
        path: str | None = None,
        problems: list[Problem] | None = None,
        cause: str | None = None,
        remedy: str | None = None,
        details: dict[str, str | int | bool | None] | None = None,
    ) -> None:
        self.detail = detail
        self.domain = domain
        self.snapshot = snapshot
        self.path = path
        self.problems = problems or []
        self.cause = cause
        self.remedy = remedy
        self.details = details or {}
        super().__init__(self.prefix + detail)

    def to_wire(self) -> ErrorObject:
        """Return the JSON-RPC error object that `error_from_wire` turns back into this error."""
        data = ErrorData(
            kind=self.kind,
            retryable=self.retryable,
            domain=self.domain,
            snapshot=self.snapshot,
            path=self.path,
            problems=self.problems,
            cause=self.cause,
            remedy=self.remedy,
            details=self.details,
        )
        return ErrorObject(self.code, str(self), data)


class ProtocolError(Error):
    """The conversation itself went wrong."""

    kind = "protocol-error"


class ParseError(ProtocolError):
    """The frame is not JSON."""

    kind = "parse-error"
    code = -32700


class InvalidRequest(ProtocolError):
    """The frame is JSON, but not a JSON-RPC 2.0 message."""

    kind = "invalid-request"
    code = -32600


class MethodNotFound(ProtocolError):
    """No method of this name."""

    kind = "method-not-found"
    code = -32601


class InvalidParams(ProtocolError):
    """The parameters do not have the method's shape; `problems` lists every violation."""

    kind = "invalid-params"
    code = -32602


class InternalFault(ProtocolError):
    """A defect of the daemon; the details are in its log under the reference given."""

    kind = "internal-fault"
    code = -32603


class FrameTooLong(ProtocolError):
    """A line exceeds the frame limit; the connection is closed after this answer."""

    kind = "frame-too-long"
    code = -32001


class TooBusy(ProtocolError):
    """A limit of the daemon is reached for the moment."""

    kind = "too-busy"
    code = -32002
    retryable = True


class Cancelled(ProtocolError):
    """The caller cancelled the request."""

    kind = "cancelled"
    code = -32800


class ConnectionLost(ProtocolError):
    """The daemon is gone. Raised by the client only, never sent."""

    kind = "connection-lost"
    code = -32003

    maybe_applied: bool = False
    """True when the request had been sent and changes something: whether it was applied is unknown."""


class DeadlineExceeded(ProtocolError):
    """No answer within the caller's deadline. Raised by the client only, never sent."""

    kind = "deadline-exceeded"
    code = -32004

    maybe_applied: bool = False
    """True when the request changes something and may still be applied."""


class RequestError(Error):
    """The request was understood and refused; also stands for kinds that this version does not know."""

    kind = "request-error"


class InternalError(RequestError):
    """libvirt's VIR_ERR_INTERNAL_ERROR: XML that parses but makes no sense, surprises of a hypervisor."""

    kind = "internal-error"
    code = 1
    prefix = "internal error: "


class HypervisorError(InternalError):
    """The hypervisor refused or failed; `cause` holds its own words."""

    kind = "hypervisor-error"


class DriverUnavailable(RequestError):
    """The driver of this URI cannot work on this host; the reason is in `cause`."""

    kind = "driver-unavailable"
    code = 5
    prefix = "failed to connect to the hypervisor: "


class NoSupport(RequestError):
    """The driver lacks the operation altogether."""

    kind = "no-support"
    code = 3
    prefix = "this function is not supported by the connection driver: "


class InvalidArgument(RequestError):
    """An argument contradicts the state of things."""

    kind = "invalid-argument"
    code = 8
    prefix = "invalid argument: "


class InvalidFlags(InvalidArgument):
    """Unsupported or contradicting flags; libvirt gives these without a prefix."""

    kind = "invalid-flags"
    prefix = ""


class OperationFailed(RequestError):
    """The operation was valid and failed."""

    kind = "operation-failed"
    code = 9
    prefix = "operation failed: "


class SnapshotExists(OperationFailed):
    """A snapshot of this name exists already."""

    kind = "snapshot-exists"


class OutcomeUnknown(OperationFailed):
    """Whether the operation was carried out cannot be told; it is found out before the next change."""

    kind = "outcome-unknown"


class DomainExists(OperationFailed):
    """A domain of this name or UUID exists already (libvirt: OPERATION_FAILED from virDomainObjListAdd)."""

    kind = "domain-exists"


class XmlError(RequestError):
    """The document's content is wrong."""

    kind = "xml-error"
    code = 27
    prefix = "XML error: "


class OperationDenied(RequestError):
    """A read-only connection asked for a change or a secret."""

    kind = "operation-denied"
    code = 29
    prefix = "operation forbidden: "


class XmlDetail(RequestError):
    """The document is not well-formed, or a snapshot's name is not acceptable (libvirt's XML_DETAIL)."""

    kind = "xml-detail"
    code = 35


class SystemFailure(RequestError):
    """An operation on a file or process failed; the system's words come last."""

    kind = "system-error"
    code = 38


class DomainNotFound(RequestError):
    """No domain with this name, UUID or id."""

    kind = "no-domain"
    code = 42
    prefix = "Domain not found: "


class OperationInvalid(RequestError):
    """The object is in the wrong state for the operation."""

    kind = "operation-invalid"
    code = 55
    prefix = "Requested operation is not valid: "


class ConfigUnsupported(RequestError):
    """A configuration that cannot be honoured."""

    kind = "config-unsupported"
    code = 67
    prefix = "unsupported configuration: "


class OperationTimeout(RequestError):
    """Something did not happen in time."""

    kind = "operation-timeout"
    code = 68
    prefix = "Timed out during operation: "


class DomainBusy(OperationTimeout):
    """Another operation holds the domain; `details`: `job`, `since` (seconds since the epoch), `holder`."""

    kind = "domain-busy"
    retryable = True


class SnapshotNotFound(RequestError):
    """No such snapshot, no current one, or no parent."""

    kind = "no-domain-snapshot"
    code = 72
    prefix = "Domain snapshot not found: "


class RevertRisky(RequestError):
    """The revert needs force."""

    kind = "snapshot-revert-risky"
    code = 77
    prefix = "revert requires force: "


class OperationUnsupported(RequestError):
    """Not possible in this situation."""

    kind = "operation-unsupported"
    code = 84
    prefix = "Operation not supported: "


class AccessDenied(RequestError):
    """The caller's identity does not permit this."""

    kind = "access-denied"
    code = 88
    prefix = "access denied: "


class XmlInvalidSchema(RequestError):
    """The document does not follow the schema that the `validate` flag asks for."""

    kind = "xml-invalid-schema"
    code = 92
    prefix = "XML document failed to validate against schema: "


class StorageError(RequestError):
    """The daemon's own store failed; nothing of the change was applied."""

    kind = "storage-error"
    code = 38
    prefix = "cannot store the change: "


class StoreUnusable(StorageError):
    """The store cannot be opened or read; it was left as it is."""

    kind = "store-unusable"
    prefix = "cannot open the store: "


class ResyncRequired(RequestError):
    """Events after the given position are no longer held; list the objects again and subscribe afresh."""

    kind = "resync-required"
    code = 8


def _classes(root: type[Error]) -> list[type[Error]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _classes(child))]


ERRORS: Final[dict[str, type[Error]]] = {cls.kind: cls for cls in _classes(Error)}
"""Every class of the taxonomy by its kind, in the order of the drawing above."""


def error_from_wire(wire: ErrorObject) -> Error:
    """Return the error that the peer raised: its class by `kind`, else by `code`, else `RequestError`."""
    data = _data(wire)
    cls = ERRORS.get(data.kind) or next((c for c in ERRORS.values() if c.code == wire.code), RequestError)
    error = cls.__new__(cls)
    Error.__init__(
        error,
        wire.message.removeprefix(cls.prefix),
        domain=data.domain,
        snapshot=data.snapshot,
        path=data.path,
        problems=data.problems,
        cause=data.cause,
        remedy=data.remedy,
        details=data.details,
    )
    if data.kind not in ERRORS:  # of a newer daemon: what it says of itself is better than what we know
        error.kind, error.code, error.retryable = data.kind or error.kind, wire.code, data.retryable
    return error


def _data(wire: ErrorObject) -> ErrorData:
    if isinstance(wire.data, ErrorData):
        return wire.data
    if isinstance(wire.data, msgspec.Raw):
        try:
            return msgspec.json.decode(wire.data, type=ErrorData)
        except msgspec.MsgspecError:
            pass  # another implementation's `data`: the code and the message still say what happened
    return ErrorData(kind="")

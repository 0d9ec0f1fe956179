"""The command event: waits for what happens and prints it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from virtsnap.cli.command import MAX_DIGITS, Command, CommandFailed, Option
from virtsnap.events import LostEvents
from virtsnap_protocol.methods.event import Event, EventKind, Filter, Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from virtsnap.cli.command import Arguments
    from virtsnap.cli.console import Console

_TYPES: Final[dict[str, list[EventKind]]] = {
    "lifecycle": ["domain.lifecycle"],
    "snapshot": [
        "snapshot.created",
        "snapshot.redefined",
        "snapshot.renamed",
        "snapshot.current-changed",
        "snapshot.reverted",
        "snapshot.deleted",
        "snapshot.discarded",
    ],
}
_DETAILS: Final = {
    "from-snapshot": "Snapshot",
    "wakeup": "Event wakeup",
    "ioerror": "I/O Error",
    "api-error": "API error",
    "postcopy": "Post-copy",
    "postcopy-failed": "Post-copy Error",
}
"""Where virsh's word for a detail (virshDomainEventDetail) is not libvirt's own, capitalised."""
_LIFECYCLE: Final = {"pmsuspended": "PMSuspended"}


def _event(console: Console, arguments: Arguments) -> None:
    arguments.exclude("all", "event")
    if arguments.flag("list"):
        console.out("".join(f"{name}\n" for name in _TYPES))
        console.result({"events": list(_TYPES)})
        return
    wanted = _wanted(arguments)
    timeout, domain = arguments.number("timeout"), arguments.text("domain")
    since = _position(arguments.text("since"))
    uuid = console.domain(domain).info().domain.uuid if domain else None
    seen, ending = _watch(console, arguments, Filter(kinds=wanted, domain=uuid), since, timeout)
    if ending:
        console.out(f"event loop {ending}\n")
    console.out(f"events received: {seen}\n")
    if not seen:
        console.result({"error": {"message": f"event loop {ending}"}})
        raise CommandFailed  # without a word: virsh has none on standard error either


def _wanted(arguments: Arguments) -> list[EventKind] | None:
    if arguments.flag("all"):
        return None
    name = arguments.text("event")
    if name is None:
        raise CommandFailed("one of --list, --all, or --event <type> is required")
    if name not in _TYPES:
        raise CommandFailed(f"unknown event type {name}")
    return _TYPES[name]


def _position(text: str | None) -> Position | None:
    if text is None:
        return None
    epoch, colon, seq = text.rpartition(":")
    if not (colon and epoch and seq.isascii() and seq.isdigit() and len(seq) <= MAX_DIGITS):
        raise CommandFailed(f"'{text}' is not a position of the form EPOCH:SEQ")
    return Position(epoch=epoch, seq=int(seq))


def _watch(
    console: Console, arguments: Arguments, wanted: Filter, since: Position | None, timeout: int | None
) -> tuple[int, str]:
    """Print events; return how many, and how the waiting ended if not by itself."""
    seen = 0
    try:
        for event in _events(console, wanted, since, timeout):
            seen += 1  # before it is printed: an interrupt that follows what was read must find it counted
            stamp = _stamp(event.time) if arguments.flag("timestamp") else ""
            console.out(f"{stamp}{describe(event)}\n")
            console.result(event)
            sys.stdout.flush()
            if not arguments.flag("loop"):
                return seen, ""
    except KeyboardInterrupt:
        return seen, "interrupted"
    return seen, "timed out"


def _events(console: Console, wanted: Filter, since: Position | None, timeout: int | None) -> Iterator[Event]:
    """Yield events until the timeout (seconds); where some were lost, fetch them."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        with console.connection.events(since=since, filter=wanted) as stream:
            while True:
                left = None if until is None else max(0.0, until - time.monotonic())
                event = stream.next(left)
                if event is None:
                    return
                if isinstance(event, LostEvents):
                    since = event.since
                    break
                yield event


def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + ".000+0000: "


def describe(event: Event) -> str:
    """Return one line on an event, for lifecycle events in virsh's words."""
    noun, _, what = event.kind.partition(".")
    if event.lifecycle is not None:
        words = [_LIFECYCLE.get(event.lifecycle, event.lifecycle.capitalize())]
        if event.detail:
            words.append(_DETAILS.get(event.detail, event.detail.replace("-", " ").capitalize()))
    else:
        words = [what.replace("-", " ").capitalize()]
        if event.former is not None:
            words += [event.former, "to"]
        if event.snapshot is not None:
            words.append(event.snapshot)
    noun = "lifecycle" if event.lifecycle is not None else noun
    return f"event '{noun}' for domain '{event.domain}': {' '.join(words)}"


COMMANDS: Final = (
    Command(
        name="event",
        group="events",
        summary="wait for events",
        description="Print the next event, or all of them. Events of snapshots are of the type 'snapshot'.",
        options=(
            Option("domain", "text", "only of this domain", completes="domain"),
            Option("event", "text", "type of event to wait for", choices=tuple(_TYPES)),
            Option("all", "flag", "wait for events of all types"),
            Option("loop", "flag", "go on until the timeout or an interrupt"),
            Option("timeout", "number", "seconds to wait"),
            Option("list", "flag", "list the types of events"),
            Option("timestamp", "flag", "show when each happened"),
            Option("since", "text", "begin after this position, EPOCH:SEQ", named_only=True),
        ),
        run=_event,
    ),
)

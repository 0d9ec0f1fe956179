"""How log records look: lines that journald takes apart, or lines for a person at a terminal.

A record is one line for journald whatever it contains, so that neither a traceback nor a client's text can be
mistaken for another record; control characters are shown escaped.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

from typing_extensions import override

PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog's priorities (sd-daemon(3)) from this level up; what is below is 7, debug."""

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord("\t"): "\t",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class _OneLineMessage(logging.Formatter):
    """Keeps the message itself on one line; a traceback follows on lines of its own."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)


class JournalFormatter(_OneLineMessage):
    """``<6>virtsnapd.daemon: message``: journald adds time and process, and reads the priority."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        priority = next((number for level, number in PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>" + super().format(record).translate(_ESCAPES)


class TerminalFormatter(_OneLineMessage):
    """``2026-01-31 12:00:00 info virtsnapd.daemon: message``, in local time."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(level)s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the record's first line."""
        record.__dict__["level"] = record.levelname.lower()
        return super().formatMessage(record)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Log records from `level` (debug, info, warning, error) up to `stream`, or to standard error.

    Replaces what was configured before, so it may be called again.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JournalFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)

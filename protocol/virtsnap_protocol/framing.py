"""Frames on a byte stream: one JSON text per line, in time linear in the bytes however they are cut."""

from __future__ import annotations

from typing import Final

from virtsnap_protocol.errors import FrameTooLong

FRAME_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one frame, without its newline, when nothing else is configured."""


class LineFramer:
    r"""Cuts a stream of bytes into lines; never keeps more than `limit` bytes of an unfinished one.

    The `\r` of a line that ends in `\r\n` counts towards the limit and is not part of the frame. Blank lines
    are skipped, so that a person at the other end of socat may press Enter.
    """

    __slots__ = ("_partial", "limit", "overflow")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self.limit: Final = limit
        self.overflow: FrameTooLong | None = None
        """Set for good once a line was too long: where the next one begins is not looked for."""
        # A bytearray, not a list of chunks: a peer that sends single bytes must not cost an object for each.
        self._partial = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        r"""Take what was received; return the frames it completes, without their `\n` or `\r\n`.

        Frames that were complete before an over-long line are still returned; the next call raises.

        Raises:
            FrameTooLong: a line exceeds the limit, finished or not. Nothing more can be read.
        """
        if self.overflow is not None:
            raise self.overflow
        if isinstance(data, bytes) and self.is_one_frame(data):
            return [data[:-1]]
        longest = len(self._partial) + len(data)
        lines = bytes(data).split(b"\n")
        tail = lines.pop()
        if lines and self._partial:
            self._partial += lines[0]
            lines[0] = bytes(self._partial)
            self._partial.clear()
        if longest > self.limit:
            self._stop_at_overflow(lines, tail)
        if tail and self.overflow is None:
            self._partial += tail
        return [
            line[:-1] if line[-1] == _CARRIAGE_RETURN else line
            for line in lines
            if line and not line.isspace()
        ]

    def is_one_frame(self, data: bytes) -> bool:
        """Say whether this would be just one ordinary frame: what a peer sends that waits for each answer."""
        end = len(data) - 1
        return (
            not self._partial
            and self.overflow is None
            and 0 < end < self.limit
            and data.find(b"\n") == end
            and data[0] == _BRACE
            and data[-2] != _CARRIAGE_RETURN
        )

    def _stop_at_overflow(self, lines: list[bytes], tail: bytes) -> None:
        """Remove the first line that is too long and all after it; raise when that leaves nothing."""
        good = next((i for i, line in enumerate(lines) if len(line) > self.limit), len(lines))
        if good == len(lines) and len(self._partial) + len(tail) <= self.limit:
            return
        self._partial.clear()
        self.overflow = FrameTooLong(f"a message is longer than {self.limit} bytes")
        del lines[good:]
        if not lines:
            raise self.overflow


_CARRIAGE_RETURN: Final = 0x0D
_BRACE: Final = ord("{")

"""Files that hold a saved domain: their format, written so that a torn one is never taken for a whole one.

Such a file is a prefix of 32 bytes (magic, version, length of the header, length of the stream; little-endian), a
header in JSON, zeros up to the next multiple of `ALIGNMENT`, and the hypervisor's own stream. While it is being
written its magic is `PARTIAL`; the other one is put there when all the rest is on the disk for certain.
Reading one trusts nothing: not what kind of file it is, not its lengths, not that it is all there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import struct
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from virtsnap_protocol.errors import InternalError, OperationFailed, SystemFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MAGIC: Final = b"virtsnap saved\n\0"
PARTIAL: Final = b"virtsnap part.\n\0"
VERSION: Final = 1
ALIGNMENT: Final = 4096
"""Where the stream begins, and what O_DIRECT asks of every disk that there is."""
PIECE: Final = 1024 * 1024
"""Bytes that are read or written at a time."""
HEADER_MAX: Final = 16 * 1024 * 1024
"""Bytes of a header; a definition has a few KiB."""

_PREFIX: Final = struct.Struct("<16sIIQ")


class SaveHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a saved domain is."""

    driver: str
    name: str
    uuid: str
    definition: str
    """The XML that the guest ran with, secrets included."""
    running: bool
    """Whether it goes on running, rather than paused."""
    identity: str
    """Tells this save from every other one."""
    time: int
    """Seconds since the epoch."""


class SaveFile:
    """A saved state that is being written; made by `create`."""

    def __init__(self, fd: int, header: SaveHeader, shown: Path, *, direct: bool) -> None:
        encoded = msgspec.json.encode(header)
        if len(encoded) > HEADER_MAX:
            raise OperationFailed(f"the definition of domain '{header.name}' is too large to be saved")
        self._fd = fd
        self._name, self._shown = header.name, shown
        self._direct = direct
        self._header_length = len(encoded)
        self._written = 0
        self._filled = 0
        self._buffer = mmap.mmap(-1, PIECE)  # begins at a page, as O_DIRECT wants
        block = _PREFIX.pack(PARTIAL, VERSION, len(encoded), 0) + encoded
        self._start = block.ljust(_stream_start(len(encoded)), b"\0")

    async def write(self, data: bytes) -> None:
        """Append to the stream.

        Raises:
            SystemFailure: The disk is full, or broken.
        """
        rest = memoryview(self._start + data if self._start else data)
        self._start = b""
        while rest:
            part = rest[: PIECE - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == PIECE:
                await trio.to_thread.run_sync(self._flush)

    async def finish(self) -> None:
        """Make the file a whole one: everything is on the disk when this returns.

        Raises:
            SystemFailure: The disk is full, or broken.
        """
        await self.write(b"")
        await trio.to_thread.run_sync(self._finish)

    def _flush(self) -> None:
        with self._failing(), memoryview(self._buffer) as buffer:
            done = 0
            while done < self._filled:
                done += os.write(self._fd, buffer[done : self._filled])
        self._written += self._filled
        self._filled = 0

    def _finish(self) -> None:
        if self._direct:  # the last piece has an odd length
            fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~os.O_DIRECT)
        self._flush()
        length = self._written - _stream_start(self._header_length)
        with self._failing():
            os.fsync(self._fd)
            os.pwrite(self._fd, _PREFIX.pack(MAGIC, VERSION, self._header_length, length), 0)
            os.fsync(self._fd)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unwritable(self._name, self._shown, "write", error) from error

    def close(self) -> None:
        """Let go of the file, whole or not."""
        self._buffer.close()
        os.close(self._fd)


class SavedState:
    """A saved state that is being read; made by `open_saved`."""

    def __init__(self, fd: int, path: Path, header: SaveHeader, start: int, length: int) -> None:
        self.path: Final = path
        self.header: Final = header
        self._fd = fd
        self._at = start
        self._left = length
        self._buffer = mmap.mmap(-1, PIECE)

    async def read(self) -> bytes:
        """Return the next piece of the stream; empty at its end.

        Raises:
            SystemFailure: It cannot be read.
        """
        return await trio.to_thread.run_sync(self._read)

    def _read(self) -> bytes:
        if not self._left:
            return b""
        with memoryview(self._buffer) as buffer:
            try:
                count = os.preadv(self._fd, [buffer], self._at)
            except OSError as error:
                raise _unreadable(self.path, error) from error
            if not count:
                raise SystemFailure(f"incomplete state in '{self.path}'", path=str(self.path))
            piece = bytes(buffer[: min(count, self._left)])
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Let go of the file."""
        self._buffer.close()
        os.close(self._fd)


@asynccontextmanager
async def create(
    path: Path, header: SaveHeader, *, shown: Path, direct: bool = False
) -> AsyncIterator[SaveFile]:
    """Make a new file that nobody else may read, and yield it; errors name it as `shown`.

    With `direct` the host's page cache is left alone. What is there when the block ends is left there.

    Raises:
        SystemFailure: It cannot be made; in the words of libvirt's test driver (testDomainSaveImageWrite).
        OperationFailed: The file system cannot bypass the cache.
    """
    try:
        fd = await trio.to_thread.run_sync(partial(_create, path, direct=direct))
    except OSError as error:
        if direct and error.errno == errno.EINVAL:
            raise OperationFailed("bypass cache unsupported by this system", path=str(shown)) from error
        raise _unwritable(header.name, shown, "open", error) from error
    try:
        file = SaveFile(fd, header, shown, direct=direct)
    except BaseException:
        os.close(fd)
        raise
    try:
        yield file
    finally:
        file.close()


@asynccontextmanager
async def open_saved(path: Path, *, direct: bool = False) -> AsyncIterator[SavedState]:
    """Open a file that holds a saved state; in the words of libvirt's test driver where it has some.

    Raises:
        SystemFailure: It cannot be read, is no regular file, or ends early.
        InternalError: It is another kind of file, or damaged.
        OperationFailed: It was not written to its end, or by a newer version.
    """
    saved = await trio.to_thread.run_sync(partial(_open, path, direct=direct))
    try:
        yield saved
    finally:
        saved.close()


def resolve_target(path: Path, domain: str) -> Path:
    """Return the file that a domain is to be saved to: with what is behind symbolic links. Blocks.

    Raises:
        SystemFailure: Something else than a file has the name, or nothing can have it.
    """
    try:
        found = Path(os.path.realpath(path))
        mode = found.stat().st_mode if found.exists() else stat.S_IFREG
    except OSError as error:
        raise _unwritable(domain, path, "open", error) from error
    except ValueError as error:  # a NUL
        raise _unwritable(domain, path, "open", OSError(errno.EINVAL, os.strerror(errno.EINVAL))) from error
    if not stat.S_ISREG(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise _unwritable(domain, path, "open", OSError(number, os.strerror(number)))
    return found


def publish(temporary: Path, path: Path) -> None:
    """Give a whole file its name, for good where the file system can; one that had it before is gone. Blocks.

    Raises:
        OSError: It keeps the temporary name.
    """
    if temporary != path:
        temporary.replace(path)
    with contextlib.suppress(OSError):  # not every file system knows how to, and the name is there
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_whole(path: Path, identity: str) -> bool:
    """Tell whether there is a file of this very save, written to its end. Blocks.

    Raises:
        SystemFailure: That cannot be told: the file cannot be read, or its folder is not there (yet).
    """
    try:
        path.parent.stat()
        if not path.is_file():
            return False
        saved = _open(path, direct=False)
    except OSError as error:
        raise _unreadable(path, error) from error
    except SystemFailure as error:
        if isinstance(error.__cause__, OSError):
            raise
        return False
    except (InternalError, OperationFailed):
        return False
    saved.close()
    return saved.header.identity == identity


def _create(path: Path, *, direct: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags | (os.O_DIRECT if direct else 0), 0o600)


def _open(path: Path, *, direct: bool) -> SavedState:
    try:
        # not blocking: a pipe would keep us waiting for somebody to write
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a NUL
        raise _unreadable(path, OSError(errno.EINVAL, os.strerror(errno.EINVAL))) from error
    try:
        header, start, length = _checked(path, fd)
        if direct:
            _bypass_cache(path, fd)
        return SavedState(fd, path, header, start, length)
    except BaseException:
        os.close(fd)
        raise


def _checked(path: Path, fd: int) -> tuple[SaveHeader, int, int]:
    """Return the header, and where the stream begins and how many bytes it has."""
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise SystemFailure(
            f"incomplete save header in '{path}': {os.strerror(errno.EISDIR)}", path=str(path)
        )
    if not stat.S_ISREG(status.st_mode):
        raise SystemFailure(f"cannot read domain image '{path}': not a regular file", path=str(path))
    try:
        prefix = os.pread(fd, _PREFIX.size, 0)
        magic = prefix[: len(MAGIC)]
        if len(magic) < len(MAGIC):
            raise SystemFailure(f"incomplete save header in '{path}'", path=str(path))
        if magic == PARTIAL:
            raise OperationFailed("save image is incomplete", path=str(path))
        if magic != MAGIC:
            raise InternalError("mismatched header magic", path=str(path))
        if len(prefix) < _PREFIX.size:
            raise SystemFailure(f"failed to read metadata length in '{path}'", path=str(path))
        _, version, header_length, length = _PREFIX.unpack(prefix)
        if version > VERSION:
            raise OperationFailed(
                f"image version is not supported ({version} > {VERSION})",
                path=str(path),
                remedy="restore it with the version of virtsnapd that wrote it, or a newer one",
            )
        if not 1 <= header_length <= HEADER_MAX:
            raise InternalError("length of metadata out of range", path=str(path))
        encoded = os.pread(fd, header_length, _PREFIX.size)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(encoded) < header_length:
        raise SystemFailure(f"incomplete metadata in '{path}'", path=str(path))
    try:
        header = msgspec.json.decode(encoded, type=SaveHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InternalError(f"damaged metadata in '{path}': {error}", path=str(path)) from error
    start = _stream_start(header_length)
    if status.st_size < start + length:
        raise OperationFailed("save image is incomplete", path=str(path), cause="the file ends early")
    return header, start, length


def _bypass_cache(path: Path, fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError as error:
        raise OperationFailed("bypass cache unsupported by this system", path=str(path)) from error


def _stream_start(header_length: int) -> int:
    return -(-(_PREFIX.size + header_length) // ALIGNMENT) * ALIGNMENT


def _unreadable(path: Path, error: OSError) -> SystemFailure:
    return SystemFailure(f"cannot read domain image '{path}': {error.strerror}", path=str(path))


def _unwritable(domain: str, path: Path, step: str, error: OSError) -> SystemFailure:
    return SystemFailure(
        f"saving domain '{domain}' to '{path}': {step} failed: {error.strerror}",
        domain=domain,
        path=str(path),
    )

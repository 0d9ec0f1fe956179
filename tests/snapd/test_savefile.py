from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from virtsnap_protocol.errors import Error, InternalError, OperationFailed, SystemFailure
from virtsnapd import savefile
from virtsnapd.savefile import ALIGNMENT, MAGIC, PARTIAL, PIECE, VERSION, SavedState, SaveHeader

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = SaveHeader(
    driver="test",
    name="web",
    uuid="11111111-2222-3333-4444-555555555555",
    definition="<domain/>",
    running=True,
    identity="t1",
    time=1,
)
PREFIX = struct.Struct("<16sIIQ")


async def write(path: Path, stream: bytes, *, header: SaveHeader = HEADER, direct: bool = False) -> None:
    async with savefile.create(path, header, shown=path, direct=direct) as file:
        await file.write(stream)
        await file.finish()


async def read(path: Path, *, direct: bool = False) -> tuple[SaveHeader, bytes]:
    async with savefile.open_saved(path, direct=direct) as saved:
        stream = b""
        while piece := await saved.read():
            stream += piece
        return saved.header, stream


async def read_on(saved: SavedState) -> None:
    while await saved.read():
        pass


async def refusal(path: Path) -> Error:
    with pytest.raises(Error) as caught:
        await read(path)
    return caught.value


@pytest.mark.parametrize("size", [0, 1, ALIGNMENT, PIECE - ALIGNMENT, PIECE, 2 * PIECE + 17])
async def test_what_was_written_is_read(tmp_path: Path, size: int) -> None:
    stream = os.urandom(size)
    await write(tmp_path / "f", stream)
    assert await read(tmp_path / "f") == (HEADER, stream)


async def test_a_stream_may_come_in_any_pieces(tmp_path: Path) -> None:
    path, stream = tmp_path / "f", os.urandom(2 * PIECE + 5)
    async with savefile.create(path, HEADER, shown=path) as file:
        for start, end in ((0, 3), (3, PIECE), (PIECE, PIECE), (PIECE, len(stream))):
            await file.write(stream[start:end])
        await file.finish()
    assert (await read(path))[1] == stream


async def test_the_host_s_cache_can_be_bypassed(tmp_path: Path) -> None:
    stream = os.urandom(PIECE + 17)
    try:
        await write(tmp_path / "f", stream, direct=True)
    except OperationFailed as error:
        assert error.detail == "bypass cache unsupported by this system"  # noqa: PT017 - a file system in memory
        return
    assert await read(tmp_path / "f", direct=True) == (HEADER, stream)


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    await write(tmp_path / "f", b"memory")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("precious")
    with pytest.raises(SystemFailure, match=r"saving domain 'web' to '.*/f': open failed: File exists"):
        await write(tmp_path / "f", b"memory")
    assert (tmp_path / "f").read_text() == "precious"


async def test_a_file_that_was_not_finished_is_not_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    async with savefile.create(path, HEADER, shown=path) as file:
        await file.write(b"x" * 2 * PIECE)
    assert path.read_bytes()[:16] == PARTIAL
    assert not savefile.is_whole(path, "t1")
    error = await refusal(path)
    assert (str(error), error.path) == ("operation failed: save image is incomplete", str(path))


async def test_a_whole_file_is_known_by_its_token(tmp_path: Path) -> None:
    await write(tmp_path / "f", b"memory")
    assert savefile.is_whole(tmp_path / "f", "t1")
    assert not savefile.is_whole(tmp_path / "f", "t2")
    assert not savefile.is_whole(tmp_path / "g", "t1")


async def test_what_cannot_be_seen_is_not_taken_for_lost(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="No such file or directory"):
        savefile.is_whole(tmp_path / "not mounted yet" / "f", "t1")


async def test_an_error_of_the_disk_is_told_in_libvirt_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    text = "saving domain 'web' to '.*/f': write failed: No space left on device"
    with pytest.raises(SystemFailure, match=text):
        await write(tmp_path / "f", b"memory")
    assert not savefile.is_whole(tmp_path / "f", "t1")


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def with_prefix(magic: bytes, version: int, header_length: int, length: int) -> Callable[[Path], None]:
    return damaged(lambda data: PREFIX.pack(magic, version, header_length, length) + data[PREFIX.size :])


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HEADER_LENGTH = len(msgspec.json.encode(HEADER))
UNREADABLE: dict[str, tuple[Callable[[Path], None], type[Error], str]] = {
    "missing": (Path.unlink, SystemFailure, "cannot read domain image '{path}': No such file or directory"),
    "folder": (
        become_folder,
        SystemFailure,
        "incomplete save header in '{path}': Is a directory",
    ),
    "pipe": (
        become_pipe,
        SystemFailure,
        "cannot read domain image '{path}': not a regular file",
    ),
    "empty": (damaged(lambda _: b""), SystemFailure, "incomplete save header in '{path}'"),
    "short magic": (damaged(lambda d: d[:15]), SystemFailure, "incomplete save header in '{path}'"),
    "foreign": (
        damaged(lambda d: b"#!/bin/sh" + d),
        InternalError,
        "internal error: mismatched header magic",
    ),
    "libvirt's": (
        damaged(lambda d: b"LibvirtQemudSave" + d[16:]),
        InternalError,
        "internal error: mismatched header magic",
    ),
    "short prefix": (
        damaged(lambda d: d[:20]),
        SystemFailure,
        "failed to read metadata length in '{path}'",
    ),
    "newer": (
        with_prefix(MAGIC, VERSION + 1, HEADER_LENGTH, 6),
        OperationFailed,
        f"operation failed: image version is not supported ({VERSION + 1} > {VERSION})",
    ),
    "no header": (
        with_prefix(MAGIC, VERSION, 0, 6),
        InternalError,
        "internal error: length of metadata out of range",
    ),
    "vast header": (
        with_prefix(MAGIC, VERSION, 2**32 - 1, 6),
        InternalError,
        "internal error: length of metadata out of range",
    ),
    "short header": (damaged(lambda d: d[:50]), SystemFailure, "incomplete metadata in '{path}'"),
    "damaged header": (
        damaged(lambda d: d.replace(b'"driver"', b'"drivel"')),
        InternalError,
        "internal error: damaged metadata in '{path}': Object missing required field `driver`",
    ),
    "header that is no text": (
        damaged(lambda d: d.replace(b'"web"', b'"\xff\xfe"')),
        InternalError,
        "internal error: damaged metadata in '{path}': ",
    ),
    "short stream": (
        damaged(lambda d: d[:-1]),
        OperationFailed,
        "operation failed: save image is incomplete",
    ),
    "vast stream": (
        with_prefix(MAGIC, VERSION, HEADER_LENGTH, 2**64 - 1),
        OperationFailed,
        "operation failed: save image is incomplete",
    ),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_file_that_cannot_be_restored_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "f"
    await write(path, b"memory")
    damage, kind, text = UNREADABLE[what]
    damage(path)
    error = await refusal(path)
    assert type(error) is kind
    assert str(error).startswith(text.format(path=path))
    assert error.path == str(path)


async def test_a_name_with_a_nul_is_no_file() -> None:
    error = await refusal(Path("/a\0b"))
    assert isinstance(error, SystemFailure)
    assert str(error).endswith("Invalid argument")


async def test_a_stream_that_is_cut_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    await write(path, b"x" * 2 * PIECE)
    async with savefile.open_saved(path) as saved:
        await saved.read()
        os.truncate(path, PIECE)
        with pytest.raises(SystemFailure, match="incomplete state in"):
            await read_on(saved)


def test_a_target_is_what_a_symbolic_link_stands_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert savefile.resolve_target(tmp_path / "link", "web") == tmp_path / "file"
    (tmp_path / "file").touch()
    assert savefile.resolve_target(tmp_path / "link", "web") == tmp_path / "file"


@pytest.mark.parametrize(
    ("name", "words"),
    [("folder", "Is a directory"), ("pipe", "Invalid argument"), ("a\0b", "Invalid argument")],
)
def test_only_a_file_can_be_a_target(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemFailure) as caught:
        savefile.resolve_target(tmp_path / name, "web")
    assert str(caught.value) == f"saving domain 'web' to '{tmp_path / name}': open failed: {words}"


def test_a_published_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    savefile.publish(tmp_path / "new", tmp_path / "old")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "new")]

"""The languages of --memspec and --diskspec."""

from __future__ import annotations

import pytest

from virtsnap.cli.command import CommandFailed
from virtsnap.cli.specs import disk_spec, items, memory_spec
from virtsnap.document import DiskSpec, MemorySpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a,b", ["a", "b"]), ("a,,b", ["a,b"]), ("a,,,b", ["a,", "b"]), ("", [""]), ("a,", ["a", ""])],
)
def test_two_commas_stand_for_one(text: str, expected: list[str]) -> None:
    assert items(text) == expected


def test_a_bare_path_is_the_memory_file() -> None:
    assert memory_spec("/m,snapshot=external") == MemorySpec(file="/m", snapshot="external")


@pytest.mark.parametrize("text", ["foo", "file=a,file=b", "file=a,x=b", "snapshot"])
def test_a_memspec_that_is_not_understood_is_quoted(text: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        memory_spec(text)
    assert caught.value.lines == (f"unable to parse memspec: {text}",)


def test_a_diskspec_has_a_name_and_keys() -> None:
    assert disk_spec("vda,file=a,,b,stype=file,driver=raw,snapshot=no") == DiskSpec(
        name="vda", source="a,b", storage="file", driver="raw", snapshot="no"
    )


@pytest.mark.parametrize("text", ["", ",file=/x", "vda,x", "vda,foo=1", "vda,file=/x,file=/y"])
def test_a_diskspec_that_is_not_understood_is_quoted(text: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        disk_spec(text)
    assert caught.value.lines == (f"unable to parse diskspec: {text}",)


def test_an_unknown_storage_type_is_named() -> None:
    with pytest.raises(CommandFailed) as caught:
        disk_spec("vda,stype=net")
    assert caught.value.lines == ("Unknown storage type: 'net'", "unable to parse diskspec: vda,stype=net")

"""undefine: which flags reach the daemon, and what is refused before anything is asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.fake_daemon import refusing
from tests.support.samples import DOMAIN
from virtsnap_protocol.errors import DomainNotFound, InvalidFlags, OperationInvalid
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import domain

if TYPE_CHECKING:
    from tests.client.cli.conftest import Cli
    from tests.support.fake_daemon import FakeDaemon

OFF = msgspec.structs.replace(DOMAIN, id=None, state="shutoff")
ALL = "--managed-save --snapshots-metadata --checkpoints-metadata"
DONE = (0, "Domain 'vm' has been undefined\n\n", "")


@pytest.fixture(autouse=True)
def _undefining(daemon: FakeDaemon) -> None:
    daemon.answers["domain.undefine"] = lambda _: Empty()


def of(daemon: FakeDaemon, **facts: Any) -> None:  # noqa: ANN401 fields of all types
    """Let the domain be off and have something."""
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=msgspec.structs.replace(OFF, **facts))


def flags(daemon: FakeDaemon) -> list[list[domain.UndefineFlag]]:
    return [params.flags for name, params in daemon.asked if name == "domain.undefine"]


def test_flags_with_nothing_to_act_on_are_not_sent(cli: Cli, daemon: FakeDaemon) -> None:
    of(daemon)
    assert cli(f"undefine vm {ALL}") == DONE
    assert flags(daemon) == [[]]


def test_an_active_domain_keeps_its_snapshots(cli: Cli, daemon: FakeDaemon) -> None:
    of(daemon, id=3, state="running", snapshots=2)
    assert cli(f"undefine vm {ALL}") == DONE
    assert flags(daemon) == [[]]


def test_flags_with_something_to_act_on_are_sent(cli: Cli, daemon: FakeDaemon) -> None:
    of(daemon, snapshots=2, managed_save=True)
    assert cli(f"undefine vm {ALL} --nvram --tpm") == DONE
    assert flags(daemon) == [["managed-save", "snapshots-metadata", "nvram", "tpm"]]


def test_snapshots_are_the_daemons_to_refuse(cli: Cli, daemon: FakeDaemon) -> None:
    of(daemon, snapshots=1)
    refusal = "cannot delete inactive domain with 1 snapshots"
    daemon.answers["domain.undefine"] = refusing(OperationInvalid(refusal))
    assert cli("undefine", "vm") == (
        1,
        "\n",
        f"error: Failed to undefine domain 'vm'\nerror: Requested operation is not valid: {refusal}\n",
    )


def test_a_managed_save_is_refused_in_virshs_words(cli: Cli, daemon: FakeDaemon) -> None:
    of(daemon, managed_save=True)
    assert cli("undefine", "vm", "--snapshots-metadata") == (
        1,
        "\n",
        "error: Refusing to undefine while domain managed save image exists\n",
    )
    assert flags(daemon) == []


@pytest.mark.parametrize("option", ["keep-nvram", "tpm", "keep-tpm"])
def test_a_driver_without_firmware_has_none_to_keep(cli: Cli, daemon: FakeDaemon, option: str) -> None:
    of(daemon, snapshots=1)

    def choosy(params: domain.UndefineParams) -> Empty:
        if option in params.flags:
            raise InvalidFlags(f"unsupported flags ({option}) in method domain.undefine")
        return Empty()

    daemon.answers["domain.undefine"] = choosy
    assert cli(f"undefine vm --snapshots-metadata --{option}") == DONE
    assert flags(daemon)[-1] == ["snapshots-metadata"]


def test_firmware_that_is_to_be_removed_is_not_passed_over(cli: Cli, daemon: FakeDaemon) -> None:
    of(daemon)
    daemon.answers["domain.undefine"] = refusing(
        InvalidFlags("unsupported flags (nvram) in method domain.undefine")
    )
    assert cli("undefine vm --nvram --keep-tpm")[2] == (
        "error: Failed to undefine domain 'vm'\nerror: unsupported flags (nvram) in method domain.undefine\n"
    )
    assert len(flags(daemon)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--nvram --keep-nvram", "Options --nvram and --keep-nvram are mutually exclusive"),
        ("--tpm --keep-tpm", "Options --tpm and --keep-tpm are mutually exclusive"),
        (
            "--wipe-storage",
            "'--wipe-storage' requires '--storage <string>' or '--remove-all-storage'",
        ),
        (
            "--delete-storage-volume-snapshots --wipe-storage --tpm --keep-tpm",
            "Option --remove-all-storage is required by option --delete-storage-volume-snapshots",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_before_the_domain_is_looked_for(
    cli: Cli, daemon: FakeDaemon, options: str, message: str
) -> None:
    assert cli(f"undefine vm {options}") == (1, "\n", f"error: {message}\n")
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("options", "named"),
    [("--storage vda --wipe-storage", "storage"), ("--remove-all-storage", "remove-all-storage")],
)
def test_storage_is_refused_by_name_with_the_reason(
    cli: Cli, daemon: FakeDaemon, options: str, named: str
) -> None:
    of(daemon)
    assert cli(f"undefine vm {options}")[2] == (
        f"error: Option --{named} is not supported: there are no storage pools; "
        "remove the images yourself once the domain is undefined\n"
    )
    assert flags(daemon) == []


def test_an_unknown_domain_is_told_before_storage(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'x'"))
    assert cli("undefine x --storage vda")[2] == "error: failed to get domain 'x'\n"

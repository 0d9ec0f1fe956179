"""save, restore, managedsave, managedsave-remove: what is asked of the daemon, and virsh's words around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.fake_daemon import refusing
from tests.support.samples import DOMAIN
from virtsnap_protocol.errors import DomainNotFound, OperationInvalid
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import domain, save

if TYPE_CHECKING:
    from tests.client.cli.conftest import Cli
    from tests.support.fake_daemon import FakeDaemon

SAVED = msgspec.structs.replace(DOMAIN, id=None, state="shutoff", reason="saved", managed_save=True)


@pytest.fixture(autouse=True)
def _saving(daemon: FakeDaemon) -> None:
    daemon.answers["save.create"] = lambda _: Empty()
    daemon.answers["save.manage"] = lambda _: Empty()
    daemon.answers["save.discard"] = lambda _: Empty()
    daemon.answers["save.restore"] = lambda _: domain.InfoResult(domain=DOMAIN)


def test_the_state_of_a_domain_is_saved_to_a_file(cli: Cli, daemon: FakeDaemon) -> None:
    assert cli("save", "vm", "/x.sav") == (0, "\nDomain 'vm' saved to /x.sav\n\n", "")
    assert daemon.asked[-1] == ("save.create", save.CreateParams(domain="vm", path="/x.sav"))


def test_a_file_is_looked_for_in_the_users_folder(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("save", "vm", "../x.sav")[1] == "\nDomain 'vm' saved to ../x.sav\n\n"
    assert cli("restore", "x.sav")[1] == "Domain restored from x.sav\n\n"
    asked = [params.path for name, params in daemon.asked if name.startswith("save.")]
    assert asked == [f"{Path.cwd()}/../x.sav", f"{Path.cwd()}/x.sav"]


def test_a_folder_that_is_gone_matters_to_files_in_it_alone(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli("save", "vm", "/x.sav")[0] == 0
    refusal = "error: cannot get current directory: No such file or directory\n"
    assert cli("save vm x.sav; pwd; echo on") == (0, "\n\non\n", refusal * 2)


@pytest.mark.parametrize(
    ("command", "method"),
    [("save vm /x", "save.create"), ("restore /x", "save.restore"), ("managedsave vm", "save.manage")],
)
def test_how_it_is_to_go_on_is_passed_on(cli: Cli, daemon: FakeDaemon, command: str, method: str) -> None:
    assert cli(f"{command} --paused --bypass-cache --running")[0] == 0
    assert (daemon.names[-1], daemon.asked[-1][1].flags) == (method, ["bypass-cache", "running", "paused"])


def test_a_managed_save_is_told_in_virshs_words(cli: Cli) -> None:
    assert cli("managedsave", "vm") == (0, "\nDomain 'vm' state saved by libvirt\n\n", "")


def test_verbose_tells_that_all_is_written(cli: Cli, daemon: FakeDaemon) -> None:
    assert cli("save", "vm", "/x", "--verbose")[2] == "\rSave: [100 %]"
    assert cli("managedsave", "vm", "--verbose")[2] == "\rManagedsave: [100 %]"
    daemon.answers["save.create"] = refusing(OperationInvalid("domain is not running"))
    assert "100" not in cli("save", "vm", "/x", "--verbose")[2]


@pytest.mark.parametrize(
    ("command", "summary"),
    [
        ("save vm x", "Failed to save domain 'vm' to x"),
        ("restore x", "Failed to restore domain from x"),
        ("managedsave vm", "Failed to save domain 'vm' state"),
        ("managedsave-remove vm", "Failed to remove managed save image for domain 'vm'"),
    ],
)
def test_a_refusal_is_told_after_what_failed(
    cli: Cli, daemon: FakeDaemon, command: str, summary: str
) -> None:
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=SAVED)
    for method in ("save.create", "save.restore", "save.manage", "save.discard"):
        daemon.answers[method] = refusing(OperationInvalid("no"))
    assert cli(command) == (
        1,
        "\n",
        f"error: {summary}\nerror: Requested operation is not valid: no\n",
    )


def test_a_managed_save_is_removed_where_there_is_one(cli: Cli, daemon: FakeDaemon) -> None:
    skipped = "Domain 'vm' has no manage save image; removal skipped\n"
    assert cli("managedsave-remove", "vm") == (0, skipped, "")
    assert cli.json("managedsave-remove", "vm") == {"removed": False}
    assert "save.discard" not in daemon.names
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=SAVED)
    assert cli("managedsave-remove", "vm") == (0, "Removed managedsave image for domain 'vm'\n", "")
    assert cli.json("managedsave-remove", "vm") == {"removed": True}


@pytest.mark.parametrize("command", ["save vm /x", "restore /x"])
def test_another_definition_is_refused_with_the_reason(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "vm.xml"
    assert cli(f"{command} --xml {file}")[2] == (
        f"error: Failed to open file '{file}': No such file or directory\n"
    )
    file.write_text("<domain/>")
    assert cli(f"{command} --xml {file}")[2] == (
        "error: Option --xml is not supported: a domain goes on with the definition it was saved with\n"
    )
    assert [name for name in daemon.names if name.startswith("save.")] == []


def test_an_unknown_domain_is_told_before_a_file_that_is_not_there(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = refusing(DomainNotFound("no domain with matching name 'x'"))
    assert cli("save x /y --xml /none/such")[2] == "error: failed to get domain 'x'\n"


def test_json_of_what_was_restored_is_the_domain(cli: Cli) -> None:
    assert cli.json("restore", "/x")["domain"]["name"] == "vm"
    assert cli.json("save", "vm", "/x") == {}

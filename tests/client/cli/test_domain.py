"""Commands on domains: their names, starting and stopping, disks, lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.fake_daemon import refusing
from tests.support.samples import DOMAIN, POSITION, UUID
from virtsnap_protocol.errors import DomainNotFound, OperationInvalid
from virtsnap_protocol.method import Empty
from virtsnap_protocol.methods import connection, domain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.cli.conftest import Cli
    from tests.support.fake_daemon import FakeDaemon

OFF = msgspec.structs.replace(DOMAIN, id=None, state="shutoff")
SAVED = msgspec.structs.replace(OFF, name="saved", reason="saved", managed_save=True)


@pytest.fixture(autouse=True)
def _known(daemon: FakeDaemon) -> None:
    """Let the daemon know the sample domain by its id, name and UUID alone."""

    def info(params: domain.DomainParams) -> domain.InfoResult:
        if params.domain in {DOMAIN.id, DOMAIN.name, UUID} or str(params.domain).lower() == UUID:
            return domain.InfoResult(domain=DOMAIN)
        raise DomainNotFound(f"no domain with matching name '{params.domain}'")

    daemon.answers["domain.info"] = info


@pytest.mark.parametrize(
    ("command", "known", "unknown", "answer"),
    [
        ("domname", ("1", UUID, UUID.upper()), ("vm", "2"), "vm"),
        ("domid", ("vm", UUID), ("1", "2"), "1"),
        ("domuuid", ("vm", "1"), (UUID, "2"), UUID),
    ],
)
def test_one_name_of_a_domain_is_turned_into_another(
    cli: Cli, command: str, known: tuple[str, ...], unknown: tuple[str, ...], answer: str
) -> None:
    assert {cli(command, name) for name in known} == {(0, f"{answer}\n\n", "")}
    for name in unknown:
        assert cli(command, name) == (1, "\n", f"error: failed to get domain '{name}'\n")
    assert str(cli.json(command, known[0])[command.removeprefix("dom")]) == answer


def test_an_inactive_domain_has_no_id(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=OFF)
    assert cli("domid", "vm") == (0, "-\n\n", "")
    assert cli.json("domid", "vm") == {"id": None}


def test_a_domain_is_renamed_by_its_name_or_uuid(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.rename"] = lambda _: domain.InfoResult(domain=OFF)
    assert cli("domrename", "vm", "a b") == (0, "Domain successfully renamed\n\n", "")
    assert daemon.asked[-1][1] == domain.RenameParams(domain=UUID, name="a b")
    assert cli("domrename", "1", "x") == (1, "\n", "error: failed to get domain '1'\n")
    assert cli("domrename vm ''")[2] == "error: Failed to get option 'new-name': Option argument is empty\n"


def test_a_refused_rename_is_told_alone(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.rename"] = refusing(OperationInvalid("cannot rename active domain"))
    assert cli("domrename", "vm", "x")[2] == (
        "error: Requested operation is not valid: cannot rename active domain\n"
    )


def test_how_to_start_is_passed_on(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=OFF)
    daemon.answers["domain.start"] = lambda _: domain.InfoResult(domain=DOMAIN)
    done = (0, "Domain 'vm' started\n\n", "")
    assert cli("start vm --force-boot --bypass-cache --paused") == done
    assert daemon.asked[-1][1].flags == ["paused", "bypass-cache", "force-boot"]


def test_a_definition_is_validated_when_asked_for(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    file = tmp_path / "vm.xml"
    file.write_text("<domain/>")
    for command in ("define", "create"):
        daemon.answers[f"domain.{command}"] = lambda _: domain.InfoResult(domain=DOMAIN)
        assert cli(command, str(file), "--validate")[0] == 0
        assert daemon.asked[-1][1].flags == ["validate"]
        cli(command, str(file))
        assert daemon.asked[-1][1].flags == []


def test_a_guest_is_asked_to_shut_down_through_acpi(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.shutdown"] = lambda _: Empty()
    assert cli("shutdown vm --mode acpi") == (0, "Domain 'vm' is being shutdown\n\n", "")
    daemon.asked.clear()
    assert cli("shutdown vm --mode acpi,agent") == (
        1,
        "\n",
        (
            "error: Failed to shutdown domain 'vm'\n"
            "error: shutdown mode 'agent' is not supported: the guest is asked through ACPI\n"
        ),
    )
    assert cli("shutdown x --mode agent")[2] == "error: failed to get domain 'x'\n"
    expected = "expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'"
    assert cli("shutdown x --mode acpi,foo")[2] == f"error: Unknown mode foo value, {expected}\n"
    assert "domain.shutdown" not in daemon.names


def test_disks_are_listed_with_their_images(cli: Cli, daemon: FakeDaemon) -> None:
    disks = [
        domain.DiskInfo(target="vda", source="/a.img", type="file", device="disk"),
        domain.DiskInfo(target="hdc", source=None, type="file", device="cdrom"),
    ]
    daemon.answers["domain.disks"] = lambda _: domain.DisksResult(disks=disks)
    assert cli("domblklist", "vm")[1] == (
        " Target   Source\n------------------\n vda      /a.img\n hdc      -\n\n"
    )
    assert cli("domblklist", "vm", "--details")[1] == (
        " Type   Device   Target   Source\n----------------------------------\n"
        " file   disk     vda      /a.img\n file   cdrom    hdc      -\n\n"
    )
    assert cli("-q", "domblklist", "vm", "--inactive")[1] == " vda   /a.img\n hdc   -\n"
    assert daemon.asked[-1][1].flags == ["inactive"]
    assert cli.json("domblklist", "vm")["disks"][1]["source"] is None


@pytest.fixture
def several(daemon: FakeDaemon) -> list[domain.ListParams]:
    """Let there be a running and a saved domain; return what lists were asked for."""
    asked: list[domain.ListParams] = []

    def listed(params: domain.ListParams) -> domain.ListResult:
        asked.append(params)
        return domain.ListResult(domains=[DOMAIN, SAVED], position=POSITION)

    daemon.answers["domain.list"] = listed
    return asked


def test_saved_domains_are_marked_when_asked_for(cli: Cli, several: list[Any]) -> None:
    assert cli("-q", "list", "--all")[1] == " 1   vm      running\n -   saved   shut off\n"
    assert cli("-q", "list", "--all", "--managed-save")[1] == " 1   vm      running\n -   saved   saved\n"


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ("", ["active"]),
        ("--state-shutoff", ["inactive"]),
        ("--state-shutoff --all", ["active", "inactive"]),
        ("--all --with-managed-save", ["active", "inactive", "managed-save"]),
        ("--inactive --without-managed-save --no-autostart", ["inactive", "no-managed-save"]),
    ],
)
def test_filters_are_the_daemons(
    cli: Cli, several: list[domain.ListParams], options: str, flags: list[domain.ListFlag]
) -> None:
    assert cli(f"list --name {options}")[0] == 0
    assert several[0].flags == flags


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("--autostart", ""),
        ("--with-checkpoint", ""),
        ("--no-autostart --without-checkpoint", "vm\nsaved\n"),
        ("--autostart --no-autostart", "vm\nsaved\n"),
    ],
)
def test_nothing_starts_by_itself_or_has_checkpoints(
    cli: Cli, several: list[Any], options: str, names: str
) -> None:
    assert cli(f"list --all --name {options}")[1] == f"{names}\n"


def test_several_names_of_a_domain_stand_in_virshs_order(cli: Cli, several: list[Any]) -> None:
    assert cli("-q", "list", "--all", "--name", "--id", "--uuid")[1] == f"{UUID} 1 vm\n{UUID} - saved\n"


def test_titles_are_read_from_the_definitions(cli: Cli, daemon: FakeDaemon, several: list[Any]) -> None:
    titles = iter(["<domain><title>a &amp; b</title></domain>", "<domain/>"])
    daemon.answers["domain.xml"] = lambda _: domain.XmlResult(xml=next(titles))
    assert cli("-q", "list", "--all", "--title")[1] == (
        " 1   vm      running    a & b\n -   saved   shut off   \n"
    )


def test_json_says_in_which_ways_a_domain_may_be_named(cli: Cli) -> None:
    error = cli.json("domname", "vm")["error"]
    assert error["message"] == "Domain not found: no domain with matching id or uuid 'vm'"
    assert error["data"]["domain"] == "vm"


def test_json_of_a_list_with_titles_has_them(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.xml"] = lambda _: domain.XmlResult(xml="<domain><title>t</title></domain>")
    listed = cli.json("list", "--all", "--title")["domains"]
    assert [(each["name"], each["title"]) for each in listed] == [("vm", "t")]
    assert "title" not in cli.json("list", "--all")["domains"][0]


def test_a_domain_that_goes_while_titles_are_read_has_none(
    cli: Cli, daemon: FakeDaemon, several: list[Any]
) -> None:
    daemon.answers["domain.xml"] = refusing(DomainNotFound("gone"))
    assert cli("-q", "list", "--state-running", "--title") == (0, " 1   vm   running   \n", "")


def test_dominfo_tells_of_a_managed_save(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["domain.info"] = lambda _: domain.InfoResult(domain=SAVED)
    assert "Managed save:   yes\n" in cli("dominfo", "saved")[1]


def test_capabilities_are_a_document(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.answers["connection.capabilities"] = lambda _: connection.CapabilitiesResult(xml="<a/>\n")
    assert cli("capabilities") == (0, "<a/>\n\n\n", "")
    assert cli.json("capabilities") == {"xml": "<a/>\n"}

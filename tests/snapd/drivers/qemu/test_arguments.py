"""Command lines: golden pairs, a real QEMU that accepts each of them, and refusals by name."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import qemu_golden
from tests.support.guest import Serial, make_disk
from tests.support.real_qemu import greets, running
from virtsnap_protocol.errors import ConfigUnsupported
from virtsnapd.drivers.qemu.arguments import DOMAIN, check_honoured, command_line, node_names, vmstate_target
from virtsnapd.drivers.qemu.elements import attributes_of, child_elements, element_name
from virtsnapd.models.domain import DomainDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from virtsnapd.drivers.qemu.elements import Rule
    from virtsnapd.models.document import Element

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
TCG_CASES = [case for case in qemu_golden.CASES if case != "kvm"]


def domain(*, devices: str = "", rest: str = "", attributes: str = "") -> DomainDefinition:
    return DomainDefinition.parse(
        f"<domain type='qemu' {attributes}><name>guest</name><uuid>6d3f2f0e-0000-4000-8000-00000000000f</uuid>"
        f"<memory>16384</memory><os><type machine='pc'>hvm</type></os>{rest}<devices>{devices}</devices></domain>"
    )


def disk(target: str, *, extra: str = "", image_format: str = "qcow2", name: str = "d.qcow2") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/><source file='/images/{name}'/>"
        f"<target dev='{target}'/>{extra}</disk>"
    )


def refusals(definition: DomainDefinition, accel: str | None = None) -> dict[str, str]:
    with pytest.raises(ConfigUnsupported) as caught:
        check_honoured(definition, accel=accel)
    return {problem.path: problem.message for problem in caught.value.problems}


def argv(definition: DomainDefinition, *sockets: str) -> list[str]:
    return command_line(definition, emulator=QEMU, accel="tcg", monitor_sockets=sockets, paused=True)


@pytest.mark.parametrize("case", qemu_golden.CASES)
def test_a_domain_gives_the_arguments_that_were_reviewed(case: str) -> None:
    assert qemu_golden.produced(case) == qemu_golden.expected(case)


@pytest.fixture
def golden_domain(request: pytest.FixtureRequest, short_tmp: Path) -> DomainDefinition:
    """A golden domain whose images and sockets are really there."""
    text = qemu_golden.given(request.param)
    text = text.replace("/images/", f"{short_tmp}/").replace("/sockets/", f"{short_tmp}/")
    definition = qemu_golden.defined(text)
    for given in definition.disks:
        if given.source is not None:
            create_image(given.source, given.format or "raw", short_tmp)
    return definition


def create_image(path: str, image_format: str, folder: Path) -> None:
    (folder / "base.raw").write_bytes(bytes(1 << 20))
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, path, "1440k"], check=True)


@pytest.mark.parametrize("golden_domain", TCG_CASES, indirect=True)
def test_the_real_qemu_starts_every_golden_domain_and_answers_on_both_monitors(
    golden_domain: DomainDefinition, short_tmp: Path
) -> None:
    sockets = [str(short_tmp / "one, monitor.sock"), str(short_tmp / "two.sock")]
    arguments = command_line(
        golden_domain,
        emulator=QEMU,
        accel="tcg",
        monitor_sockets=sockets,
        paused=True,
        socket_dir=str(short_tmp),
    )
    with running(arguments, short_tmp) as probe:
        assert probe.execute("query-status")["status"] == "prelaunch"
        assert probe.execute("query-uuid")["UUID"] == golden_domain.uuid
        assert probe.execute("query-name")["name"] == golden_domain.name
        for path in sockets:
            assert greets(path)
        probe.execute("cont")
        assert probe.execute("query-status")["status"] == "running"


@pytest.mark.parametrize("golden_domain", TCG_CASES, indirect=True)
def test_the_real_qemu_has_every_disk_as_a_node_of_the_promised_name(
    golden_domain: DomainDefinition, short_tmp: Path
) -> None:
    with running(argv_with_sockets(golden_domain, short_tmp), short_tmp) as probe:
        nodes = {node["node-name"]: node["drv"] for node in probe.execute("query-named-block-nodes")}
    formats = {given.target: given.format or "raw" for given in golden_domain.disks if given.source}
    assert {target: nodes[node] for target, node in node_names(golden_domain).items()} == formats


def argv_with_sockets(definition: DomainDefinition, folder: Path) -> list[str]:
    return command_line(
        definition, emulator=QEMU, accel="tcg", monitor_sockets=(), paused=True, socket_dir=str(folder)
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_unprivileged_guest_runs_as_that_user_inside_the_sandbox(short_tmp: Path) -> None:
    definition = qemu_golden.defined(qemu_golden.given("smallest"))
    arguments = command_line(
        definition, emulator=QEMU, accel="tcg", monitor_sockets=(), paused=True, run_as="nobody"
    )
    with running(arguments, short_tmp) as probe:
        assert probe.execute("query-status")["status"] == "prelaunch"


def honoured(rule: Rule, path: str, found: dict[tuple[int, str], str]) -> None:
    """Collect what the table honours: each rule that several elements share counts once."""
    for name in rule.attributes:
        found.setdefault((id(rule), f"@{name}"), f"{path}/@{name}")
    for tag, child in rule.children.items():
        key = (id(child), tag)
        if key not in found:
            found[key] = f"{path}/{tag}"
            honoured(child, f"{path}/{tag}", found)


def shown(element: Element, rule: Rule) -> Iterator[tuple[int, str]]:
    yield from ((id(rule), f"@{name}") for name in attributes_of(element))
    for child in child_elements(element):
        if child_rule := rule.children.get(element_name(child)):
            yield id(child_rule), element_name(child)
            yield from shown(child, child_rule)


def test_everything_that_the_table_honours_is_shown_in_a_golden_pair() -> None:
    table: dict[tuple[int, str], str] = {}
    honoured(DOMAIN, "/domain", table)
    for case in qemu_golden.CASES:
        for key in shown(qemu_golden.defined(qemu_golden.given(case)).element, DOMAIN):
            table.pop(key, None)
    assert sorted(table.values()) == ["/domain/@id"]  # a live attribute: definitions do not keep it


def test_every_refusal_is_reported_at_once_and_by_name() -> None:
    definition = domain(
        attributes="xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'",
        rest="<qemu:commandline><qemu:arg value='-foo'/></qemu:commandline><memoryBacking/>",
        devices="<hostdev mode='subsystem' type='pci'/><tpm/><tpm/>"
        + disk("vda", extra="<iotune/>")
        + "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>",
    )
    assert refusals(definition) == {
        "/domain/qemu:commandline": "element <qemu:commandline> is not supported",
        "/domain/memoryBacking": "element <memoryBacking> is not supported",
        "/domain/devices/hostdev": "element <hostdev> is not supported",
        "/domain/devices/tpm[1]": "element <tpm> is not supported",
        "/domain/devices/tpm[2]": "element <tpm> is not supported",
        "/domain/devices/disk/iotune": "element <iotune> is not supported",
        "/domain/devices/interface/@type": (
            "value 'bridge' of attribute 'type' of <interface> is not supported (supported: user)"
        ),
        "/domain/devices/interface/source": "element <source> is not supported",
    }


@pytest.mark.parametrize(
    ("devices", "path"),
    [
        ("<disk type='network'><source protocol='nbd' name='x'/><target dev='vda'/></disk>", "disk/@type"),
        (disk("vda", extra="<transient/>"), "disk/transient"),
        (disk("vda", extra="<shareable/>"), "disk/shareable"),
        (disk("vda", extra="<encryption format='luks'/>"), "disk/encryption"),
        (
            "<disk device='lun' type='block'><source dev='/dev/sdx'/><target dev='sda'/></disk>",
            "disk/@device",
        ),
        (
            disk("vda", extra="<vendor>ACME</vendor>").replace("dev='vda'", "dev='vda' bus='virtio'"),
            "disk/vendor",
        ),
        ("<controller type='ccid' index='0'/>", "controller/@type"),
        ("<controller type='scsi' index='0' model='qemu-xhci'/>", "controller/@model"),
        ("<graphics type='spice' autoport='yes'/>", "graphics/@type"),
        ("<graphics type='vnc' passwd='secret'/>", "graphics/@passwd"),
        ("<graphics type='vnc' port='80' autoport='no'/>", "graphics/@port"),
        ("<graphics type='vnc'><listen type='socket'/></graphics>", "graphics/listen/@socket"),
        ("<video><model type='vga' heads='2'/></video>", "video/model/@heads"),
        ("<serial type='tcp'><source mode='bind' host='::' service='1'/></serial>", "serial/@type"),
        ("<serial type='unix'><source mode='bind'/></serial>", "serial/source/@path"),
        (f"<serial type='unix'><source mode='bind' path='/{'x' * 107}'/></serial>", "serial/source/@path"),
        (
            "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
            "channel/@type",
        ),
        ("<input type='tablet' bus='ps2'/>", "input/@bus"),
        ("<rng model='virtio'><backend model='random'>/etc/shadow</backend></rng>", "rng/backend"),
        ("<watchdog model='itco'/>", "watchdog/@model"),
        ("<memballoon model='virtio'/><memballoon model='none'/>", "memballoon"),
        ("<vsock model='virtio'/>", "vsock"),
    ],
)
def test_a_device_that_cannot_be_honoured_is_refused(devices: str, path: str) -> None:
    assert f"/domain/devices/{path}" in refusals(domain(devices=devices))


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("<cpu mode='host-model'/>", "cpu/@mode"),
        ("<cpu mode='custom'><feature name='vmx'/></cpu>", "cpu/feature"),
        ("<cpu><topology sockets='2' cores='2' threads='1'/></cpu>", "cpu/topology"),
        ("<cpu><numa/></cpu>", "cpu/numa"),
        ("<features><hyperv/></features>", "features/hyperv"),
        ("<clock offset='variable'/>", "clock/@offset"),
        ("<clock offset='utc'><timer name='rtc' track='guest'/></clock>", "clock/timer/@track"),
        ("<clock offset='utc'><timer name='hpet' tickpolicy='merge'/></clock>", "clock/timer[1]/@tickpolicy"),
        ("<currentMemory>8192</currentMemory>", "currentMemory"),
        ("<on_reboot>preserve</on_reboot>", "on_reboot"),
        ("<launchSecurity type='sev'/>", "launchSecurity"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(rest: str, path: str) -> None:
    assert f"/domain/{path}" in refusals(domain(rest=rest))


def test_a_kvm_guest_is_refused_where_there_is_no_kvm() -> None:
    definition = qemu_golden.defined(qemu_golden.given("kvm"))
    assert set(refusals(definition, accel="tcg")) == {"/domain/@type", "/domain/cpu/@mode"}


def test_the_command_line_of_a_refused_domain_is_refused_too() -> None:
    with pytest.raises(ConfigUnsupported, match="<tpm> is not supported"):
        argv(domain(devices="<tpm/>"))


def test_boot_order_may_be_told_in_one_place_only() -> None:
    definition = domain(devices=disk("vda", extra="<boot order='1'/>"))
    both = definition.text.replace("</os>", "<boot dev='hd'/></os>")
    assert "/domain/os/boot" in refusals(DomainDefinition.parse(both))


def test_memory_is_kept_in_the_first_writable_qcow2() -> None:
    definition = domain(
        devices=disk("hda", image_format="raw", name="a")
        + disk("hdb", extra="<readonly/>", name="b")
        + "<disk type='file' device='cdrom'><target dev='hdc'/></disk>"
        + disk("vdb", name="c")
        + disk("vdc", name="d")
    )
    assert vmstate_target(definition) == "vdb"
    assert list(node_names(definition)) == ["hda", "hdb", "vdb", "vdc"]


def test_node_names_stay_below_the_limit_of_qemu() -> None:
    longest = max(node_names(domain(devices=disk("vdzzz"))).values(), key=len)
    assert len(f"{longest}-b99") <= 31


@pytest.mark.parametrize(
    ("machine", "target", "bus"),
    [("pc", "hda", "ide"), ("pc", "vda", "virtio"), ("q35", "sda", "sata"), ("q35", "vda", "virtio")],
)
async def test_a_guest_boots_from_its_disk_and_speaks_on_its_serial_port(
    machine: str, target: str, bus: str, short_tmp: Path
) -> None:
    image = make_disk(short_tmp / "boot, disk.qcow2", boot=True)
    text = domain(
        devices=f"<disk type='file'><driver type='qcow2'/><source file='{image}'/><target dev='{target}' bus='{bus}'/>"
        f"</disk><serial type='unix'><source mode='bind' path='{short_tmp}/serial'/></serial>"
    ).text.replace("machine='pc'", f"machine='{machine}'")
    definition = qemu_golden.defined(text.replace("<devices>", "<features><acpi/></features><devices>"))
    with running(argv(definition), short_tmp) as probe:
        async with Serial.open(short_tmp / "serial") as serial:
            probe.execute("cont")
            assert await serial.wait_counter(1) >= 1
            assert await serial.command("w") == await serial.command("r")

"""What takes the place of a stored definition: the given one, with what it leaves open as it was decided."""

from __future__ import annotations

import pytest

from tests.snapd.models.samples import disk_xml, domain
from tests.support import abi
from tests.support.qemu_golden import CASES, MACHINES, defined, given
from virtsnap_protocol.errors import ConfigUnsupported, Problem
from virtsnapd.drivers.qemu.pinning import pin
from virtsnapd.models.abi import MAX_PROBLEMS, replacement
from virtsnapd.models.domain import DomainDefinition

CARD = "<interface type='user'>{}</interface>"
MAC = "<mac address='52:54:00:00:00:0{}'/>"


def complete(definition: DomainDefinition) -> DomainDefinition:
    return pin(definition, MACHINES, "pc", lambda: "52:54:00:ff:ff:ff", emulator="/usr/bin/qemu")


def test_the_refusal_has_the_first_message_and_all_problems() -> None:
    target = domain(disk_xml("vdb"), name="other", memory="4096")
    with pytest.raises(ConfigUnsupported) as refused:
        replacement(domain(), target)
    assert str(refused.value) == (
        "unsupported configuration: Target domain name 'other' does not match source 'web'"
    )
    assert refused.value.problems == [
        Problem("/domain/name", "Target domain name 'other' does not match source 'web'", "web", "other"),
        Problem("/domain/memory", "Target domain max memory 4096 does not match source 2048", "2048", "4096"),
        Problem(
            "/domain/currentMemory",
            "Target domain current memory 4096 does not match source 2048",
            "2048",
            "4096",
        ),
        Problem(
            "/domain/devices/disk/target/@dev", "Target disk vdb does not match source vda", "vda", "vdb"
        ),
    ]


def test_an_error_stays_small_enough_to_be_sent() -> None:
    many = MAX_PROBLEMS + 5

    def cards(digit: int) -> DomainDefinition:
        macs = (
            f"<mac address='52:54:0{digit}:00:{number >> 8:02x}:{number & 255:02x}'/>"
            for number in range(many)
        )
        return domain("".join(CARD.format(mac) for mac in macs))

    with pytest.raises(ConfigUnsupported) as refused:
        replacement(cards(0), cards(1))
    assert len(refused.value.problems) == MAX_PROBLEMS + 1
    assert refused.value.problems[-1].message == "and 5 more differences"


def test_what_the_guest_cannot_see_is_replaced() -> None:
    moved = domain(disk_xml(source="/elsewhere/a.qcow2"))
    assert replacement(domain(), moved) is moved


def test_an_address_that_is_left_open_is_kept_in_the_record() -> None:
    stored = domain(disk_xml() + CARD.format(MAC.format(1)) + CARD.format(MAC.format(2)))
    target = domain(disk_xml() + CARD.format("") + CARD.format(MAC.format(2)))
    kept = replacement(stored, target)
    assert [mac.get("address") for mac in kept.element.iterfind("devices/interface/mac")] == [
        "52:54:00:00:00:01",
        "52:54:00:00:00:02",
    ]


def test_an_address_that_is_given_must_be_the_recorded_one() -> None:
    one, other = (domain(disk_xml() + CARD.format(MAC.format(n))) for n in (1, 2))
    with pytest.raises(ConfigUnsupported, match="Target network card mac 52:54:00:00:00:02 does not match"):
        replacement(one, other)


def test_an_address_may_be_given_where_the_record_has_none() -> None:
    target = domain(disk_xml() + CARD.format(MAC.format(1)))
    assert replacement(domain(disk_xml() + CARD.format("")), target) is target


@pytest.mark.parametrize("case", CASES)
def test_the_original_of_a_pinned_definition_takes_its_place_and_stays_pinned(case: str) -> None:
    pinned = defined(given(case))
    original = DomainDefinition.parse(given(case), new_uuid=lambda: pinned.uuid)
    assert replacement(pinned, original, complete).text == pinned.text
    assert replacement(original, pinned, complete).text == pinned.text


def test_a_definition_is_compared_as_the_hypervisor_would_complete_it() -> None:
    stored = defined(given("devices"))
    more = given("devices").replace("</devices>", "<input type='mouse' bus='usb'/></devices>")
    with pytest.raises(ConfigUnsupported) as refused:
        replacement(stored, DomainDefinition.parse(more), complete)
    found = len(stored.element.findall("devices/input"))
    assert [problem.message for problem in refused.value.problems] == [
        f"Target domain input device count {found + 1} does not match source {found}"
    ]


def test_what_the_hypervisor_would_refuse_is_compared_as_it_stands() -> None:
    target = DomainDefinition.parse(abi.with_value("/domain/cpu/vendor", "AMD"))
    with pytest.raises(ConfigUnsupported, match="Target CPU vendor AMD does not match source Intel"):
        replacement(abi.source(), target, complete)

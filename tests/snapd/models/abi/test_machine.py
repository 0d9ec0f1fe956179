"""Each value of a machine that has one of everything: compared, with the right words, or known not to be visible."""

from __future__ import annotations

from typing import Final

import pytest

from tests.snapd.models.abi.invisible import INVISIBLE, reason
from tests.support import abi
from virtsnapd.models.abi import differences
from virtsnapd.models.domain import DomainDefinition

CONSEQUENCES: Final = (
    "/domain/vcpus/vcpu/@id",  # takes its state and its order with it
    "/domain/cpu/numa/cell/@id",  # distances are between ids, in both directions
    "/domain/cpu/numa/cell/distances/sibling/@id",
    "/domain/clock/timer/@name",  # what only a TSC has
    "/domain/devices/controller/@type",  # what models there are
    "/domain/devices/disk/target/@dev",  # addresses of drives follow from the name and the bus
    "/domain/devices/disk/target/@bus",
    "/address/@controller",  # a controller that is missing is added
    "/address/@type",  # what was at the other place
    "/domain/devices/memory/target/size",  # the rest of the memory
    "/domain/devices/memory/target/size/@unit",
)
"""Ends of paths of values on which other compared values depend: a change of one is more than one difference."""
UNMOVED: Final = ("/domain/cpu/numa/cell/distances/sibling/@id", "/domain/vcpus/vcpu/@id")
"""Values of which some changes say the same thing: a distance to oneself, a CPU that is not there."""


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    return abi.told()


def test_every_difference_is_told_as_the_file_has_it(told: dict[str, str]) -> None:
    assert told == abi.expected()


def test_every_value_is_compared_or_is_known_to_be_invisible(told: dict[str, str]) -> None:
    silent = {change.place for change in abi.changes() if str(change) not in told}
    assert sorted(place for place in silent - {*UNMOVED} if reason(place) is None) == []


def test_nothing_is_compared_that_is_said_to_be_invisible(told: dict[str, str]) -> None:
    assert [str(change) for change in abi.changes() if reason(change.place) and str(change) in told] == []


def test_no_reason_is_given_for_what_the_machine_does_not_have() -> None:
    places = [change.place.removeprefix("/domain/") for change in abi.changes()]
    unused = [start for start in INVISIBLE if not any(f"{p}/".startswith(f"{start}/") for p in places)]
    assert unused == []


def test_a_change_of_one_value_is_one_difference() -> None:
    several = [
        str(change)
        for change in abi.changes()
        if not change.place.endswith(CONSEQUENCES) and len(abi.found(change)) > 1
    ]
    assert several == []


def test_all_differences_are_found_at_once() -> None:
    picked = (("/domain/memory", "3145729"), ("/domain/cpu/vendor", "AMD"), ("/domain/devices/hub", None))
    text = abi.MACHINE
    for old, new in (
        ("<memory unit='KiB'>3145728", "<memory unit='KiB'>3145729"),
        ("<vendor>Intel", "<vendor>AMD"),
        ("<hub type='usb'><address type='usb' bus='0' port='3'/></hub>", ""),
    ):
        assert old in text
        text = text.replace(old, new)
    problems = differences(abi.source(), DomainDefinition.parse(text))
    assert [problem.path for problem in problems] == [path for path, _ in picked]
    assert [problem.new for problem in problems] == ["1048577", "AMD", "0"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bus='0x00' slot='0x05'", "bus='0' slot='5'"),
        ("<memory unit='KiB'>3145728", "<memory unit='GiB'>3"),
        ("52:54:00:11:22:33", "52:54:00:11:22:33".upper()),
        ("cpus='0-1'", "cpus='0,1'"),
        ("<tseg unit='MiB'>48", "<tseg unit='KiB'>49152"),
        ("version='2.56'", "version='2.560'"),
        ("dies='1' ", ""),
        ("<address type='ccid' controller='0' slot='0'/>", ""),
        ("<controller type='xenbus' index='0'", "<controller type='xenbus'"),
        ("<feature policy='require' name='vmx'/>", "<feature name='vmx'/>"),
        ("e9392370-2917-565e-692b-d057f46512d6", ""),
        ("<console type='pty'><target type='serial' port='0'/></console>", ""),
    ],
)
def test_one_thing_said_in_two_ways_is_no_difference(old: str, new: str) -> None:
    assert old in abi.MACHINE
    assert differences(abi.source(), DomainDefinition.parse(abi.MACHINE.replace(old, new))) == []


NUMBERS: Final = [
    change.path
    for change in abi.changes()
    if "/source/" not in change.path
    and change.place.endswith(
        (
            "/address/@slot",
            "/address/@port",
            "/@index",
            "/@controller",
            "/@base",
            "/@queues",
            "/@vram",
            "/@heads",
        )
    )
]


@pytest.mark.parametrize("value", ["", "x", "-1", "9" * 23, "0x", "9" * 5000])
def test_values_that_are_no_numbers_are_differences_not_defects(value: str) -> None:
    alike = [
        path
        for path in NUMBERS
        if not differences(abi.source(), DomainDefinition.parse(abi.with_value(path, value)))
    ]
    assert alike == []


def test_definitions_of_one_digest_are_not_looked_at() -> None:
    again = DomainDefinition.parse(abi.MACHINE)
    again.digest  # noqa: B018 - is remembered
    del again.element[:]
    assert differences(abi.source(), again) == []

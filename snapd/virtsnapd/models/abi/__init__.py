"""Whether two definitions show a guest the same machine, so that one can run a saved state of the other.

The rules are tables: `system`, `features`, `processor`, `devices`, `video`, `attachments`. `rule` has the forms of a
rule, and `completion` what libvirt adds to a definition before it compares. They are those of libvirt
(virDomainDefCheckABIStability), with its words, in its order; where a rule goes beyond, it says so.
What a guest cannot see is in no table: paths and aliases, limits, what firmware reads at the next start alone (boot
order, loader, variables), and what the host does for a device (caches, threads, actions).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import ConfigUnsupported, Error, Problem
from virtsnapd.models.abi.attachments import ATTACHED
from virtsnapd.models.abi.completion import completed
from virtsnapd.models.abi.devices import GENERAL
from virtsnapd.models.abi.features import FEATURES
from virtsnapd.models.abi.processor import CPU, NUMA, POWER, TIMERS
from virtsnapd.models.abi.system import IDENTITY, MEMORY, SYSINFO, SYSTEM, VCPUS
from virtsnapd.models.abi.video import VIDEO

if TYPE_CHECKING:
    from virtsnapd.models.abi.rule import Rule
    from virtsnapd.models.domain import DomainDefinition

__all__ = ["Completion", "differences", "replacement"]

log = logging.getLogger(__name__)

Completion = Callable[["DomainDefinition"], "DomainDefinition"]
"""Returns a definition with all decided that it leaves to its hypervisor; may raise any Error of the taxonomy."""

RULES: Final[tuple[Rule, ...]] = (
    *IDENTITY,
    *MEMORY,
    *NUMA,
    *VCPUS,
    *SYSTEM,
    *FEATURES,
    *TIMERS,
    *CPU,
    *SYSINFO,
    *GENERAL,
    VIDEO,
    *ATTACHED,
    *POWER,
)
"""All that is compared, in the order of libvirt."""


MAX_PROBLEMS: Final = 1000
"""An error has to fit into a frame, whatever two documents hold."""


def replacement(
    stored: DomainDefinition, given: DomainDefinition, complete: Completion | None = None
) -> DomainDefinition:
    """Return the definition to keep in the place of `stored`: `given`, if it shows the guest the same machine.

    What `given` leaves open for the hypervisor to decide is not a difference: `complete` decides it for both, as a
    driver does when a domain is defined, and then that form is kept, so that what was decided is not lost. MAC
    addresses are decided at random; those are taken over from `stored`.

    Raises: ConfigUnsupported.
    """
    if given.digest == stored.digest:
        return given
    old, new = stored, _with_addresses(given, stored)
    if complete is not None:
        try:
            old, new = complete(_with_addresses(stored, given)), complete(new)
        except Error:
            log.debug("%s: compared as it stands, for it cannot be completed", given.name)
    if problems := differences(old, new):
        more = len(problems) - MAX_PROBLEMS
        if more > 0:
            problems[MAX_PROBLEMS:] = [Problem("/domain", f"and {more} more differences")]
        raise ConfigUnsupported(problems[0].message, problems=problems)
    return new


def differences(source: DomainDefinition, target: DomainDefinition) -> list[Problem]:
    """Return all that a guest would see differently (virDomainDefCheckABIStability), in libvirt's order.

    The work is linear in the size of the documents; definitions of one digest are not looked at.
    """
    if source.digest == target.digest:
        return []
    old, new = completed(source), completed(target)
    return [problem for rule in RULES for problem in rule.differences(old, new, "/domain")]


def _with_addresses(definition: DomainDefinition, other: DomainDefinition) -> DomainDefinition:
    """Return the definition with the MAC addresses that it leaves open taken from the same cards of `other`."""
    cards, others = (x.element.findall("devices/interface") for x in (definition, other))
    open_ones = [place for place, card in enumerate(cards) if card.find("mac[@address]") is None]
    if len(cards) != len(others) or not open_ones:
        return definition
    root = copy.deepcopy(definition.element)
    copies = root.findall("devices/interface")
    for place in open_ones:
        if (mac := others[place].find("mac[@address]")) is not None:
            for empty in copies[place].findall("mac"):
                copies[place].remove(empty)
            copies[place].insert(0, copy.deepcopy(mac))
    return definition.with_element(root)

"""What may differ between libvirt's virsh and ours, and why: whatever is not in these tables is a defect.

The patterns are for transcripts (`harness.transcript`): commands begin with ``$``, errors with ``!``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from virtsnap import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.virsh.harness import Outcome, Script


@dataclass(frozen=True, kw_only=True)
class Volatile:
    """Something that differs between two runs of the same program; both sides' words are replaced by one."""

    pattern: str
    """For the whole of what is replaced."""
    word: str
    reason: str
    holds: Callable[[str, Script, Outcome], bool] = lambda found, script, outcome: True
    """Whether what was found is really of this kind, and not said by the script for instance."""


@dataclass(frozen=True, kw_only=True)
class Intended:
    """Something that virsh says and we say otherwise, on purpose."""

    virsh: str
    """A pattern for whole lines of virsh's transcript."""
    ours: str
    """What stands there in ours; ``\\1`` and so on as in `re.sub`."""
    reason: str
    status: int | None = None
    """Our exit status, when this is what the last command says and the status differs too."""


@dataclass(frozen=True, kw_only=True)
class Added:
    """Lines that we say beside virsh's."""

    ours: str
    """A pattern for whole lines of our transcript."""
    reason: str


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- both sides ---


def _happened_now(seconds: float, outcome: Outcome) -> bool:
    return int(outcome.began) <= seconds <= outcome.ended


def _is_now(found: str, _script: Script, outcome: Outcome) -> bool:
    return _happened_now(int(found), outcome)


def _is_local_now(found: str, _script: Script, outcome: Outcome) -> bool:
    return _happened_now(datetime.strptime(found, "%Y-%m-%d %H:%M:%S %z").timestamp(), outcome)


def _was_generated(found: str, script: Script, _outcome: Outcome) -> bool:
    return found not in repr(script)


VOLATILE: Final = (
    Volatile(
        pattern=r"\b\d{10}\b",
        word="<seconds>",
        reason="snapshots taken now, and unnamed ones named after the second",
        holds=_is_now,
    ),
    Volatile(
        pattern=r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\b",
        word="<local time>",
        reason="snapshots taken now, in lists",
        holds=_is_local_now,
    ),
    Volatile(
        pattern=r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b",
        word="<uuid>",
        reason="domains defined without a UUID get a random one (version 4)",
        holds=_was_generated,
    ),
    Volatile(
        pattern=r"(?m)(?<=^  \(Time: )\d+\.\d{3}(?= ms\)$)",
        word="<duration>",
        reason="how long a command took, with -t",
    ),
    Volatile(
        pattern=r"(?<=<folder>/)(?:virsh\w{6}\.xml|virtsnap-\w+/document\.xml)",
        word="<edited>",
        reason="the file that an editor is given has a random name",
    ),
)

# --- virsh's side ---

_FLAGS: Final = (
    "libvirt's test driver lacks the flag; the simulated driver, the reference implementation, knows all"
)
_ONE_RULE: Final = "one rule for all drivers, in the words of libvirt's qemu driver"
_QEMU_RULES: Final = (
    "libvirt's test driver overrides what is asked for; ours follows the rules of its qemu driver"
)
_RESTORED: Final = "libvirt's test driver boots anew; ours goes on where the domain was saved"
_METHODS: Final = "refusals name our method and flag, not a number and a function of libvirt"
_SELF: Final = "the versions and the parts are our own"
_NO_GUEST: Final = "libvirt's test driver announces a start here and starts nothing"
_SCHEMA: Final = "the schemas are our own, and complaints of them name element, place and what is allowed"
_TYPED: Final = "a script on standard input gets neither a welcome nor prompts"

_UNSUPPORTED: Final = r"unsupported flags \(0x\w+\) in function"
_GONE: Final = (r"\$ destroy test", r"  Domain 'test' destroyed", r"  ")

INTENDED: Final = (
    Intended(
        virsh=_lines(
            r"(\$ snapshot-create test s.xml .*--(?:no-metadata|disk-only|reuse-external))",
            r"  ",
            rf"! error: {_UNSUPPORTED} testDomainSnapshotCreateXML",
        ),
        ours=_lines(r"\1", r"  Domain snapshot s created from 's.xml'"),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"(\$ snapshot-create-as test (\w+) .*--(?:no-metadata|disk-only|reuse-external).*)",
            r"  ",
            rf"! error: {_UNSUPPORTED} testDomainSnapshotCreateXML",
        ),
        ours=_lines(r"\1", r"  Domain snapshot \2 created"),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"(\$ snapshot-current test (\w+))",
            r"  ",
            rf"! error: {_UNSUPPORTED} testDomainSnapshotCreateXML",
        ),
        ours=_lines(r"\1", r"  Snapshot \2 set as current"),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to revert snapshot (\w+)",
            rf"! error: {_UNSUPPORTED} testDomainRevertToSnapshot",
        ),
        ours=_lines(r"  Domain snapshot \1 reverted", r"  "),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to delete snapshot (\w+)",
            rf"! error: {_UNSUPPORTED} testDomainSnapshotDelete",
        ),
        ours=_lines(r"  Domain snapshot \1 deleted", r"  "),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to start domain '(\w+)'",
            rf"! error: {_UNSUPPORTED} testDomainCreateWithFlags",
        ),
        ours=_lines(r"  Domain '\1' started", r"  "),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to create domain from two.xml",
            rf"! error: {_UNSUPPORTED} testDomainCreateXML",
        ),
        ours=_lines(r"  Domain 'two' created from two.xml", r"  "),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to save domain '(\w+)' to s.sav",
            rf"! error: {_UNSUPPORTED} testDomainSaveFlags",
        ),
        ours=_lines("  ", r"  Domain '\1' saved to s.sav", r"  "),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to restore domain from s.sav",
            rf"! error: {_UNSUPPORTED} testDomainRestoreFlags",
        ),
        ours=_lines(r"  Domain restored from s.sav", r"  "),
        status=0,
        reason=_FLAGS,
    ),
    Intended(
        virsh=_lines(rf"! error: {_UNSUPPORTED} testDomainUndefineFlags"),
        ours=_lines("! error: unsupported flags (nvram) in method domain.undefine"),
        reason=_METHODS,
    ),
    *(
        Intended(
            virsh=_lines(rf"! error: operation forbidden: read only access prevents {function}"),
            ours=_lines(f"! error: operation forbidden: read only access prevents {method}"),
            reason=_METHODS,
        )
        for function, method in (
            ("virDomainSnapshotCreateXML", "snapshot.create"),
            ("virDomainSuspend", "domain.suspend"),
            ("virDomainDestroy", "domain.destroy"),
            ("virDomainUndefineFlags", "domain.undefine"),
        )
    ),
    Intended(
        virsh=_lines(r"! error: operation forbidden: virDomainGetXMLDesc with secure flag"),
        ours=_lines("! error: operation forbidden: domain.xml with secure flag"),
        reason=_METHODS,
    ),
    Intended(
        virsh=_lines(
            r"(\$ snapshot-create .*--redefine --halt)",
            r"  (?:Domain snapshot s created from 's.xml'|\n! error: XML error: a redefined .*)",
        ),
        ours=_lines(
            r"\1",
            "  ",
            "! error: Flags 'VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE' and 'VIR_DOMAIN_SNAPSHOT_CREATE_HALT'"
            " are mutually exclusive",
        ),
        status=1,
        reason="virsh tries again without --halt whatever was wrong; ours tells what was",
    ),
    Intended(
        virsh=_lines(r"(\$ snapshot-list test --leaves --no-leaves --name)", "  "),
        ours=_lines(r"\1", "  a", "  "),
        reason="the two together are no filter, as libvirt documents",
    ),
    Intended(
        virsh=_lines(
            r"(\$ snapshot-create test s.xml --redefine)",
            "  ",
            "! error: unsupported configuration: source for disk 'vda' is not a regular file;"
            " refusing to generate external snapshot name",
        ),
        ours=_lines(r"\1", "  Domain snapshot s created from 's.xml'"),
        status=0,
        reason="redefining looks at no images: they may be on another host",
    ),
    Intended(
        virsh=_lines(
            r"(\$ snapshot-create-as test (\w+) --memspec snapshot=no)", r"  Domain snapshot \w+ created"
        ),
        ours=_lines(
            r"\1",
            "  ",
            "! error: Operation not supported: internal snapshot of a running VM must include the memory state",
        ),
        status=1,
        reason=_QEMU_RULES,
    ),
    Intended(
        virsh=_lines(
            rf"({_GONE[0]}\n{_GONE[1]}\n{_GONE[2]}\n\$ .* --memspec /m\n  )",
            r"! error: unsupported configuration: source for disk 'vda' is not a regular file; refusing .*",
        ),
        ours=_lines(
            r"\1", "! error: XML error: memory state cannot be saved with offline or disk-only snapshot"
        ),
        reason=_QEMU_RULES,
    ),
    Intended(
        virsh=_lines(
            rf"({_GONE[0]}\n{_GONE[1]}\n{_GONE[2]}\n\$ .* (\w+) --diskspec vda,file=/x)",
            r"  ",
            r"! error: unsupported configuration: disk 'vda' must use snapshot mode 'internal'",
        ),
        ours=_lines(r"\1", r"  Domain snapshot \2 created"),
        status=0,
        reason=_QEMU_RULES,
    ),
    *(
        Intended(
            virsh=_lines(
                rf"(\$ snapshot-revert test o --{state}",
                r"  Domain snapshot o reverted",
                r"  ",
                r"\$ domstate test --reason)",
                r"  shut off \(destroyed\)",
            ),
            ours=_lines(r"\1", f"  {state} (from snapshot)"),
            reason=_NO_GUEST,
        )
        for state in ("running", "paused")
    ),
    # --- life ---
    Intended(
        virsh=_lines(
            rf"({_GONE[0]}\n{_GONE[1]}\n{_GONE[2]}\n\$ suspend test\n  \n! error: Failed to .*)",
            r"! error: internal error: domain 'test' not running",
        ),
        ours=_lines(r"\1", "! error: Requested operation is not valid: domain is not running"),
        reason=_ONE_RULE,
    ),
    Intended(
        virsh=_lines(
            rf"({_GONE[0]}\n{_GONE[1]}\n{_GONE[2]}\n\$ resume test\n  \n! error: Failed to .*)",
            r"! error: internal error: domain 'test' not paused",
        ),
        ours=_lines(r"\1", "! error: Requested operation is not valid: domain is not running"),
        reason=_ONE_RULE,
    ),
    Intended(
        virsh=_lines(r"! error: internal error: domain '.*' not paused"),
        ours=_lines("! error: Requested operation is not valid: domain is already running"),
        reason=_ONE_RULE,
    ),
    Intended(
        virsh=_lines(
            r"  ",
            r"! error: Failed to suspend domain '(.*)'",
            r"! error: internal error: domain '.*' not running",
        ),
        ours=_lines(r"  Domain '\1' suspended", r"  "),
        status=0,
        reason="as in libvirt's qemu driver, suspending a domain that is paused changes nothing and is no error",
    ),
    Intended(
        virsh=_lines(r"! error: internal error: domain '.*' not running"),
        ours=_lines("! error: Requested operation is not valid: domain is not running"),
        reason=_ONE_RULE,
    ),
    Intended(
        virsh=_lines(
            r"(\$ undefine test",
            r"  Domain 'test' has been undefined",
            r"  ",
            r"\$ undefine test)",
            r"  Domain 'test' has been undefined",
            r"  ",
        ),
        ours=_lines(
            r"\1",
            "  ",
            "! error: Failed to undefine domain 'test'",
            "! error: Requested operation is not valid: cannot undefine transient domain",
        ),
        status=1,
        reason=_ONE_RULE,
    ),
    Intended(
        virsh=_lines(r"(\$ undefine test .*--storage.*)", r"(?:  .*\n)+(?:! .*\n)*! .*"),
        ours=_lines(
            r"\1",
            "  ",
            "! error: Option --storage is not supported: there are no storage pools; remove the images yourself"
            " once the domain is undefined",
        ),
        status=1,
        reason="there are no storage pools; nothing is done by halves",
    ),
    # --- saved states ---
    Intended(
        virsh=_lines(
            r"(\$ suspend test(?:\n  .*)+\n\$ managedsave test(?:\n  .*)+\n\$ start .*(?:\n  .*)+)",
            r"(\$ domstate .*)",
            r"  running \(booted\)",
        ),
        ours=_lines(r"\1", r"\2", "  paused (user)"),
        reason=_RESTORED,
    ),
    Intended(
        virsh=_lines(
            r"(\$ managedsave test --paused(?:\n  .*)+\n\$ start .*(?:\n  .*)+)",
            r"(\$ domstate .*)",
            r"  running \(booted\)",
        ),
        ours=_lines(r"\1", r"\2", "  paused (user)"),
        reason=_RESTORED,
    ),
    Intended(
        virsh=_lines(
            r"(\$ managedsave test(?: --running)?(?:\n(?:  |\$ (?!start|managedsave-remove)).*)+"
            r"\n\$ start \w+(?:\n  .*)+)",
            r"(\$ domstate .*)",
            r"  running \(booted\)",
        ),
        ours=_lines(r"\1", r"\2", "  running (restored)"),
        reason=_RESTORED,
    ),
    Intended(
        virsh=_lines(
            r"(\$ suspend test(?:\n  .*)+\n\$ save test .*(?:\n  .*)+\n\$ restore .*(?:\n  .*)+)",
            r"(\$ domstate .*)",
            r"  running \(restored\)",
        ),
        ours=_lines(r"\1", r"\2", "  paused (user)"),
        reason=_RESTORED,
    ),
    Intended(
        virsh=_lines(r"(! error: incomplete save header in '.*'): Success"),
        ours=_lines(r"\1"),
        reason="libvirt adds the text of an error number that is none",
    ),
    # --- texts ---
    Intended(
        virsh=_lines(
            r"(! error: XML document failed .* against )/usr/share/libvirt/schemas/(.*\.rng)(?:\n! (?!error).*)+"
        ),
        ours=_lines(r"\1\2"),
        reason=_SCHEMA,
    ),
    Intended(
        virsh=_lines(r"(! error: .*Document is empty)", r"! \(null\)"),
        ours=_lines(r"\1", "! "),
        reason="libvirt prints the missing line as C does; ours is empty",
    ),
    Intended(
        virsh=_lines(
            r"  <domainsnapshot>",
            r"    <disks>",
            r"      />",
            r"    </disks>",
            r"  </domainsnapshot>",
            "  ",
            "  ",
        ),
        ours=_lines("  ", "! error: unable to parse diskspec: "),
        status=1,
        reason="virsh prints a document that is none for an empty specification",
    ),
    Intended(
        virsh=_lines(r"! XPath error : Invalid expression", r"! (.*)", r"! \^"),
        ours=_lines(r"! error: XPath error : Invalid expression: \1"),
        reason="libxml2 complains by itself there, in its own shape",
    ),
    Intended(
        virsh=_lines(r"(\$ snapshot-dumpxml .* --xpath '')", "  "),
        ours=_lines(r"\1", "  ", "! error: Failed to get option 'xpath': Option argument is empty"),
        reason="virsh fails here without a word",
    ),
    Intended(
        virsh=_lines(r"  OS Type:        linux"),
        ours=_lines("  OS Type:        hvm"),
        reason="libvirt's test driver says linux of every domain; ours what the definition says",
    ),
    Intended(
        virsh=_lines(r"  CPU time:       \d+\.\ds"),
        ours="",
        reason="libvirt's test driver shows the time of day here; a simulated guest uses no processor",
    ),
    Intended(
        virsh=_lines(r"  Security model: testSecurity", r"  Security DOI:   (?:\n  Security label: .*)?"),
        ours="",
        reason="there are no security models",
    ),
    Intended(
        virsh=_lines(
            r"  Compiled against library: libvirt .*", r"  Using library: libvirt .*", r"  Using API: TEST .*"
        ),
        ours=_lines(f"  Using library: virtsnap {__version__}", f"  Using API: TEST {__version__}"),
        reason=_SELF,
    ),
    Intended(
        virsh=_lines(r"  Running against daemon: .*"),
        ours=_lines(f"  Running against daemon: {__version__}"),
        reason=_SELF,
    ),
    Intended(
        virsh=_lines(
            r"  Welcome to virsh, .*", r"  ", r"  Type:  'help' .*", r"         'quit' to quit", r"  "
        ),
        ours="",
        reason=_TYPED,
    ),
    Intended(virsh=_lines(r"  virsh # quit", r"  "), ours="", reason=_TYPED),
    Intended(virsh=_lines(r"  virsh # .*"), ours="", reason=_TYPED),
)

# --- our side ---

ADDED: Final = (
    Added(ours=_lines(r"! hint: .+"), reason="what to do about it, where we know"),
    Added(ours=_lines(r"!   at /.+"), reason="where in the document the only problem is"),
    Added(ours=_lines(r"!   /.*: .+"), reason="every problem, where libvirt tells the first"),
    Added(ours=_lines(r"! line \d+: .+"), reason=_SCHEMA),
    Added(
        ours=_lines(r"    <virtsnap:data xmlns:virtsnap='urn:virtsnap:snapshot:1' name='.+'/>"),
        reason="a clone says whose data it speaks of; libvirt loses that",
    ),
)

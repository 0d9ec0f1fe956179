"""The same commands through libvirt's virsh and through ours: the same bytes, but for times and identities.

Both talk to the test hypervisor with its default domain: virsh to the one inside libvirt, we to the simulated one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support.daemon import running_daemon, settings

if TYPE_CHECKING:
    from pathlib import Path

URI: Final = "test:///default"

# What differs for a reason: the time of day, generated UUIDs, and lines of `dominfo` that describe libvirt's
# own process (CPU time of the host, its security model) or that its test driver makes up (the OS type).
DIFFERENCES: Final = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\b1[78]\d{8}\b", "SECONDS"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"(?m)^(CPU time|Security \w+|OS Type): .*\n", ""),
)

TREE: Final = (
    "snapshot-create-as test A; snapshot-create-as test b; snapshot-current test --snapshotname A;"
    "snapshot-create-as test C; snapshot-create-as test d words;"
)

SCRIPTS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "list; list --all; list --name; list --uuid; list --id --name; list --inactive; list --inactive --uuid",
    ),
    ("list --table --name; list --all --with-snapshot; list --all --without-snapshot; list --state-paused",),
    ("list", "--all"),
    ("-q", "list"),
    ("dominfo test; domstate test; domstate nope; dominfo ''; domstate 7",),
    ("domstate 6695eb01-f6a4-8304-79aa-97f2502e193f; domstate 1",),
    ("foo",),
    ("list;foo",),
    ("dominfo",),
    ("dominfo --bar test",),
    ("dominfo test extra",),
    ("dominfo --domain test --domain test",),
    ("dominfo --domain",),
    ("domstate --reason=1 test",),
    ("list -x",),
    ("--foo",),
    ("-c",),
    ("echo a 'b c' \"d e\" f\\ g; echo --xml '<a>'; echo --shell 'a b'; echo --err foo; echo a #b; x",),
    ('echo "x',),
    ("list;; list; quit; list",),
    (" # nothing",),
    ("help nope",),
    (
        TREE + "snapshot-list test; snapshot-list test --tree; snapshot-list test --parent;"
        "snapshot-list test --name --parent; snapshot-list test --roots --name; snapshot-list test --leaves --name",
    ),
    (
        TREE
        + "snapshot-list test --from A; snapshot-list test --from A --tree; snapshot-list test --current;"
        "snapshot-list test --from A --descendants --tree; snapshot-list test --topological --name;"
        "snapshot-list test --from nope; snapshot-list test --metadata; snapshot-list test --no-metadata;"
        "snapshot-list test --external; snapshot-list test --topological --tree",
    ),
    (
        "-q",
        TREE
        + "snapshot-list test; snapshot-list test --tree; snapshot-revert test A; snapshot-delete test b;"
        "snapshot-current test --name; snapshot-info test A; snapshot-parent test C; snapshot-dumpxml nope A",
    ),
    (
        TREE + "snapshot-current test --name; snapshot-current test --snapshotname b --name;"
        "snapshot-current test b; snapshot-current nope; snapshot-current test nope; snapshot-revert test nope;"
        "snapshot-revert test A --running --paused; snapshot-delete test A --children-only;"
        "snapshot-delete test A --children; snapshot-list test; snapshot-create-as test b; snapshot-info 1 b",
    ),
    (
        (
            "snapshot-list test --roots --from x; snapshot-list test --roots --current;"
            "snapshot-list test --tree --parent; snapshot-list test --parent --roots;"
            "snapshot-list test --tree --roots; snapshot-list test --tree --leaves; snapshot-list test --descendants;"
            "snapshot-list test --from x --current; snapshot-list nope --descendants; snapshot-list test --current;"
            "snapshot-list test --tree; snapshot-list test; snapshot-list test --from ''"
        ),
    ),
    (
        (
            "snapshot-info test; snapshot-info test --snapshotname=foo --current; snapshot-info test --current;"
            "snapshot-current test; snapshot-parent test; snapshot-parent test --current;"
            "snapshot-dumpxml test nope; snapshot-delete test; snapshot-revert test --current"
        ),
    ),
    ("snapshot-create test /nope; snapshot-create nope /nope; snapshot-create test ''",),
    ("snapshot-create test --current; snapshot-create test --redefine; snapshot-create test",),
    ("snapshot-create test --no-metadata --redefine; snapshot-create test --xmlfile /etc/passwd",),
    ("snapshot-create-as test a b --print-xml",),
    (
        "snapshot-create-as test a b --print-xml --diskspec vda,file=a&b,,c,snapshot=external --memspec file=d,,e",
    ),
    (
        (
            "snapshot-create-as test --print-xml --memspec /foo --diskspec vda"
            " --diskspec vdb,snapshot=no,driver=qcow2,stype=block,file=/dev/x"
        ),
    ),
    (
        "snapshot-create-as test --print-xml --memspec foo; snapshot-create-as test --print-xml --diskspec vda,foo=1",
    ),
    ("snapshot-create-as test --print-xml --memspec file=a,file=b; snapshot-create-as nope --print-xml",),
    ("snapshot-create-as test --print-xml --diskspec vda,stype=net",),
    ("snapshot-create-as test --print-xml n d vda vdb,file=/x; snapshot-create-as test '' --print-xml",),
    ("snapshot-create-as test 'a<b' 'd>\"' --print-xml --memspec snapshot=a<b,file=/x",),
    ("snapshot-create-as test n --print-xml --halt --halt",),
    ("suspend test; domstate test --reason; resume test; suspend 1; destroy test; destroy test; list --all",),
    ("destroy test; start test; start test; start nope; domstate test --reason; start 2",),
    ("destroy test; snapshot-create-as test s; snapshot-revert test s; snapshot-info test s; undefine nope",),
    ("undefine test --managed-save --snapshots-metadata; list --all; destroy test; list --all",),
    ("define /nope; create /nope; dumpxml nope",),
    (
        "event test; event; event --event foo; event --all --event lifecycle; event --event lifecycle --timeout x",
    ),
    ("list --name \\\n--all; echo a\\\nb 'c\\\nd' \"e\\\nf\"",),
    ("destroy test --graceful; list --all --name; list --all --managed-save; start test --force-boot",),
    ("event --event lifecycle --timeout 1; event --event lifecycle --domain nope",),
)


def plain(text: bytes) -> str:
    """Return an output without what differs for a reason."""
    told = text.decode()
    for pattern, word in DIFFERENCES:
        told = re.sub(pattern, word, told)
    return told


async def run(command: list[str], script: tuple[str, ...], **environment: str) -> tuple[str, str, int]:
    done = await trio.run_process(
        [*command, "-c", URI, *script],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return plain(done.stdout), plain(done.stderr), done.returncode


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: " ".join(script)[:60])
async def test_a_script_says_the_same_in_both(script: tuple[str, ...], short_tmp: Path) -> None:
    config = settings(short_tmp)
    expected = await run(["virsh"], script)
    async with running_daemon(config):
        ours = await run(
            [sys.executable, "-m", "virtsnap.cli"],
            script,
            VIRTSNAP_SOCKET=str(config.socket),
            PYTHONPATH=":".join(sys.path),
        )
    assert ours == expected

"""Tries commands out: ``python -m tests.peers.virsh 'snapshot-create-as test a' 'snapshot-list test'``."""

from __future__ import annotations

import sys

import trio

from tests.peers.virsh.comparison import expected, explanation, told
from tests.peers.virsh.harness import Script, run_both


def main() -> int:
    """Run the arguments as one script through both; print the agreed transcript or the disagreement."""
    script = Script(commands=tuple(sys.argv[1:]))
    virsh, ours = trio.run(run_both, script)
    wanted, found = expected(script, virsh), told(script, ours)
    sys.stdout.write(found if found == wanted else explanation(script, wanted, found))
    return 0 if found == wanted else 1


if __name__ == "__main__":
    sys.exit(main())

"""What only root may do, for tests that are run by a user with sudo as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def as_root(command: Sequence[str | Path]) -> list[str | Path]:
    """Return a command that runs as root; sudo must not ask for a password."""
    return list(command) if os.getuid() == 0 else ["sudo", "-n", *command]

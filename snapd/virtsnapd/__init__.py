"""virtsnapd: the daemon that keeps virtual machines and the hierarchies of their snapshots."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("virtsnap")

__all__ = ["VERSION"]

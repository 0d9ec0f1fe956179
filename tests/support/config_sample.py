"""Writes the sample configuration from the settings' defaults and descriptions; a test compares both."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final, get_type_hints

import msgspec

from virtsnapd.config import Config

SAMPLE: Final = Path(__file__).parents[2] / "systemd" / "virtsnapd.toml"
COMMAND: Final = "python -m tests.support.config_sample"


def format_sample() -> str:
    """Return the sample: every setting with its meaning and its default, commented out."""
    lines = [
        "# Configuration of virtsnapd: /etc/virtsnap/virtsnapd.toml, or per user",
        "# $XDG_CONFIG_HOME/virtsnap/virtsnapd.toml. What is commented out is the default.",
    ]
    for table in msgspec.structs.fields(Config):
        lines += ["", "", f"[{table.name}]"]
        hints = get_type_hints(table.type, include_extras=True)
        for setting in msgspec.structs.fields(table.type):
            lines += ["", *textwrap.wrap(description(hints[setting.name]), 100, initial_indent="# ",
                                         subsequent_indent="# ")]  # fmt: skip
            # The defaults are strings, numbers and arrays, which JSON writes as TOML does.
            lines.append(f"#{setting.name} = {msgspec.json.encode(setting.default).decode()}")
    return "\n".join(lines) + "\n"


def description(annotation: object) -> str:
    """Return what a setting's annotation says on it."""
    metadata = getattr(annotation, "__metadata__", ())
    found = [meta.description for meta in metadata if isinstance(meta, msgspec.Meta) and meta.description]
    return found[-1] if found else ""


if __name__ == "__main__":
    SAMPLE.write_text(format_sample(), encoding="utf-8")

"""Rules about video cards, whose memory and number of heads libvirt decides where a document does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from virtsnapd.models.abi.address import VIRTIO, switch
from virtsnapd.models.abi.devices import count, kind
from virtsnapd.models.abi.rule import Field, Part, Rule
from virtsnapd.models.abi.values import number, number_or_text

if TYPE_CHECKING:
    from virtsnapd.models.document import Element

DEFAULT_VIDEO: Final = "cirrus"
"""The model of a video card that names none."""
_ROUNDED: Final = frozenset({"ram", "vram"})
_DEFAULT_VIDEO_MEMORY: Final = {
    **dict.fromkeys((("vga", "vram"), ("cirrus", "vram"), ("vmvga", "vram")), "16384"),
    ("qxl", "ram"): "65536",
    ("qxl", "vram"): "65536",
    ("xen", "vram"): "4096",
}
"""KiB that a model has when a document does not say (virDomainVideoDefaultRAM)."""
_ACCELERATION: Final = {"yes": "1", "no": "2"}
"""libvirt's message shows the number of the choice."""


def _video_memory(name: str) -> Rule:
    """Return the rule of one kind of video memory, in KiB, rounded up to a power of two as libvirt does."""

    def read(video: Element) -> str | None:
        model = video.find("model")
        text = None if model is None else model.get(name)
        given = None if text is None else number_or_text(text)
        if isinstance(given, int) and name in _ROUNDED:
            return str(1 << max(given - 1, 0).bit_length())
        return _default_memory(video, name) if given is None else str(given)

    return Field(
        path=f"model/@{name}",
        read=read,
        absent="0",
        words=f"Target video card {name} {{new}} does not match source {{old}}",
    )


def _default_memory(video: Element, name: str) -> str | None:
    model = video.find("model")
    model_type = DEFAULT_VIDEO if model is None else model.get("type", DEFAULT_VIDEO)
    return _DEFAULT_VIDEO_MEMORY.get((model_type, name))


VIDEO: Final = kind(
    "video",
    "video card",
    Field(
        path="model/@type",
        default=DEFAULT_VIDEO,
        words="Target video card model {new} does not match source {old}",
    ),
    *(_video_memory(name) for name in ("ram", "vram", "vram64", "vgamem")),
    Field(
        path="model/@heads",
        form=number,
        default="1",
        words="Target video card heads {new} does not match source {old}",
    ),
    Part(
        path="model/acceleration",
        missing="Target video card acceleration does not match source",
        rules=tuple(
            Field(
                path=f"@accel{depth}",
                absent="0",
                shown=lambda choice: _ACCELERATION.get(choice, choice),
                words=f"Target video card {depth} accel {{new}} does not match source {{old}}",
            )
            for depth in ("2d", "3d")
        ),
    ),
    VIRTIO,
    ours=(
        switch("model/@blob", "Target video card blob '{new}' does not match source '{old}'"),
        *(count(f"model/resolution/@{axis}", f"video card resolution {axis}") for axis in ("x", "y")),
    ),
)

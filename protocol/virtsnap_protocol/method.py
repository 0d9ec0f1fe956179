"""What a call is: its name and the types of its parameters and result; declared once, used by both ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Final, Generic, TypeVar

import msgspec


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every method's parameters: given by name, unknown names refused."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every result: an object, so that fields can be added; clients ignore those they do not know."""


class Empty(Result, frozen=True):
    """The result of a call whose success says everything."""


class NoParams(Params, frozen=True):
    """The parameters of a call that needs none."""


P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)

Uri = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=1024,
        pattern=r"^[a-z][a-z0-9+.-]*://",
        description="A connection URI as in libvirt, for instance qemu:///system.",
    ),
]
DomainName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=1024, description="A domain's name or UUID.")
]
DomainRef = DomainName | Annotated[int, msgspec.Meta(ge=1, description="The id of an active domain.")]
"""What names a domain in a call. A text is never taken for an id: a domain may be called ``2``."""
FLAGS_MAX: Final = msgspec.Meta(max_length=32)
"""Bounds a list of flags: none has as many words."""
SnapshotName = Annotated[str, msgspec.Meta(min_length=1, max_length=255, description="A snapshot's name.")]
Xml = Annotated[
    str, msgspec.Meta(max_length=4 * 1024 * 1024, description="An XML document, at most 4 MiB as in libvirt.")
]


@dataclass(frozen=True)
class Method(Generic[P, R]):
    """One call of the protocol."""

    name: str
    """``noun.verb``"""
    params: type[P]
    result: type[R]
    reads: bool = field(default=False, kw_only=True)
    """Changes nothing: allowed on the read-only socket, and safe to repeat after a lost connection."""
    summary: str = field(kw_only=True)
    """One sentence for the reference."""

    @cached_property
    def decode_params(self) -> msgspec.json.Decoder[P]:
        """The compiled decoder of the parameters."""
        return msgspec.json.Decoder(self.params)

    @cached_property
    def decode_result(self) -> msgspec.json.Decoder[R]:
        """The compiled decoder of the result."""
        return msgspec.json.Decoder(self.result)

"""Hypothesis strategies for bytes as they come from a socket."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

SNIPPETS = (
    b'{"jsonrpc":"2.0",',
    b'"method":"snapshot.get"',
    b'"params":{"domain":"demo"}',
    b'"params":[1]',
    b'"id":1',
    b'"id":null',
    b'"result":{}',
    b'"error":{"code":1,"message":"no"}',
    b'{"jsonrpc":"2.0","id":1,"method":"a"}',
    b'{"jsonrpc":"2.0","id":1,"result":{}}',
    b'{"jsonrpc":"2.0","method":"a"}',
    b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}',
    b'"\\ud800"',
    b"\xff",
    b"NaN",
    b"1e999",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b" ",
    b"\r",
    b"\n",
)

streams = st.lists(st.sampled_from(SNIPPETS) | st.binary(max_size=6), max_size=40).map(b"".join)
"""Noise in which there are messages, whole and broken."""

cuts = st.lists(st.integers(0, 400), max_size=12)


def cut(stream: bytes, positions: Sequence[int]) -> list[bytes]:
    """Cut a stream into chunks; empty ones may be among them."""
    edges = [0, *sorted(min(position, len(stream)) for position in positions), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]

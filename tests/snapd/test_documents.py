"""Large documents are read beside other work, and fail like small ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.stall import no_stalls
from virtsnap_protocol.errors import XmlError
from virtsnapd.documents import LARGE, read_document

if TYPE_CHECKING:
    from tests.support.rpc import Rpc


async def test_a_small_document_is_read_where_it_is() -> None:
    assert await read_document("x", threading.get_ident) == threading.get_ident()


async def test_a_large_document_is_read_in_a_thread() -> None:
    assert await read_document("x" * LARGE, threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("size", [1, LARGE])
async def test_a_refusal_arrives_as_it_is(size: int) -> None:
    def refuse() -> None:
        raise XmlError("no")

    with pytest.raises(XmlError, match="no"):
        await read_document("x" * size, refuse)


async def test_others_are_answered_while_a_large_definition_is_read(rpc: Rpc, definition: str) -> None:
    metadata = "".join(f"<v:e xmlns:v='urn:v' n='{n}'/>" for n in range(60_000))
    large = definition.replace("</domain>", f"<metadata>{metadata}</metadata></domain>")
    assert len(large) > 20 * LARGE
    with no_stalls():
        defining = await rpc.begin("domain.define", xml=large)
        await rpc.call("connection.ping")
        await rpc.answer(defining)
    await trio.lowlevel.checkpoint()

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from virtsnap_protocol.messages import Call
from virtsnap_protocol.methods import METHODS
from virtsnapd.dispatch import Dispatcher, unforeseen
from virtsnapd.handlers import HANDLERS

if TYPE_CHECKING:
    from tests.support.rpc import Rpc
    from virtsnap_protocol.errors import Error


def test_every_method_has_its_handler() -> None:
    Dispatcher(HANDLERS, METHODS)


def test_a_method_without_a_handler_stops_the_start() -> None:
    missing = HANDLERS[3].method.name
    with pytest.raises(TypeError, match=missing):
        Dispatcher([route for route in HANDLERS if route.method.name != missing], METHODS)


def test_a_handler_without_a_method_stops_the_start() -> None:
    missing = METHODS[3].name
    with pytest.raises(TypeError, match=missing):
        Dispatcher(HANDLERS, [method for method in METHODS if method.name != missing])


def test_two_handlers_of_one_method_stop_the_start() -> None:
    with pytest.raises(TypeError, match="two handlers"):
        Dispatcher([*HANDLERS, HANDLERS[0]], METHODS)


@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_what_is_not_a_read_is_a_change(method: str) -> None:
    dispatcher = Dispatcher(HANDLERS, METHODS)
    reads = {found.name: found.reads for found in METHODS}[method]
    assert dispatcher.is_change(Call(1, method, None)) is not reads


def test_a_defect_is_told_by_a_reference_alone(caplog: pytest.LogCaptureFixture) -> None:
    error = unforeseen(Call(1, "domain.list", None), KeyError("the secret"))
    assert error.code == -32603
    assert "the secret" not in str(error.to_wire())
    assert f"defect {error.details['reference']} in domain.list" in caplog.text


async def test_an_unknown_method_is_refused_by_name(rpc: Rpc) -> None:
    error = await rpc.refusal("domain.explode")
    assert (error.code, str(error)) == (-32601, "no method 'domain.explode'")


async def test_every_method_answers_bad_parameters_with_all_that_is_wrong(rpc: Rpc) -> None:
    for method in METHODS:
        error: Error = await rpc.refusal(method.name, nonsense=1)
        assert error.code == -32602
        assert "$.nonsense" in {problem.path for problem in error.problems}


@pytest.mark.parametrize("params", ["[]", '["test"]', "5", '"x"', "true"])
async def test_parameters_that_are_no_object_are_refused(rpc: Rpc, params: str) -> None:
    answer: Any = await rpc.line(f'{{"jsonrpc":"2.0","id":1,"method":"domain.info","params":{params}}}')
    assert answer["error"]["code"] in {-32600, -32602}

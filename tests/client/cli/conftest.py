"""Fixtures of the command's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from virtsnap.cli.__main__ import main

if TYPE_CHECKING:
    from tests.support.fake_daemon import FakeDaemon


class Cli:
    """Runs the command and keeps what it printed."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        printed = self._capture.readouterr()
        return status, printed.out, printed.err

    def json(self, *argv: str) -> Any:  # noqa: ANN401 whatever JSON there is
        _, out, _ = self("--json", *argv)
        return msgspec.json.decode(out)


@pytest.fixture
def cli(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)

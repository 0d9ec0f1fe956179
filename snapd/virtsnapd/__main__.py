"""The command ``virtsnapd``: arguments, configuration, logging; then the daemon, in the foreground."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from virtsnap_protocol.errors import Error
from virtsnapd import VERSION, config, logs, systemd
from virtsnapd.daemon import STORE_NAME, Daemon, open_services, require_usable
from virtsnapd.listener import StateLock
from virtsnapd.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtsnapd.config import Config

log = logging.getLogger("virtsnapd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        settings = config.load(options.config).with_folders(options.runtime_dir, options.state_dir)
        logs.configure(settings.daemon.log_level, sys.stderr)
        require_usable(settings)
        if options.check:
            return _check(settings)
        with StateLock(settings.state_dir):
            _allow_descriptors()
            trio.run(_run, settings)
    except Error as error:
        sys.stderr.write(f"virtsnapd: {error}\n")
        if error.remedy:
            sys.stderr.write(f"virtsnapd: {error.remedy}\n")
        return 1
    return 0


def _allow_descriptors() -> None:
    """Take as many descriptors as we may: every client is one, every guest several."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line; the man page lists its options."""
    parser = argparse.ArgumentParser(
        prog="virtsnapd",
        description="Serve virtual machines and their snapshots on Unix sockets. Runs in the foreground.",
    )
    parser.add_argument("--config", metavar="F", type=Path, help="configuration file (TOML)")
    parser.add_argument("--runtime-dir", metavar="D", type=Path, help="folder of the sockets")
    parser.add_argument(
        "--state-dir", metavar="D", type=Path, help="folder of everything that survives a restart"
    )
    parser.add_argument(
        "--check", action="store_true", help="check the configuration and the store, change nothing"
    )
    parser.add_argument("--version", action="version", version=f"virtsnapd {VERSION}")
    return parser


def _check(settings: Config) -> int:
    path = settings.state_dir / STORE_NAME
    if not path.exists():
        sys.stdout.write(f"{path}: no store yet\n")
        return 0
    store = Store.open_read_only(path)
    try:
        problems = store.check()
        loaded = store.load()
    finally:
        store.close()
    for problem in problems:
        sys.stdout.write(f"{path}: {problem}\n")
    snapshots = sum(len(found) for _, found in loaded.hierarchies)
    unfinished = f", {len(loaded.operations)} unfinished operations" if loaded.operations else ""
    sys.stdout.write(f"{path}: {len(loaded.domains)} domains, {snapshots} snapshots{unfinished}\n")
    return 1 if problems else 0


async def _run(settings: Config) -> None:
    adopted = systemd.listen_fds(os.environ, os.getpid())
    async with open_services(settings) as services:
        daemon = Daemon(settings, services)
        async with daemon.listening(adopted) as listeners, trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, daemon)
            systemd.notify("READY=1")
            log.info("ready: %s", ", ".join(str(listener.getsockname()) for listener, _ in listeners))
            await daemon.serve(listeners)
            systemd.notify("STOPPING=1")
            nursery.cancel_scope.cancel()
    log.info("stopped")


async def _stop_on_signal(
    daemon: Daemon, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping on %s", signal.Signals(number).name)
            systemd.notify("STOPPING=1")
            daemon.stop()


if __name__ == "__main__":
    sys.exit(main())

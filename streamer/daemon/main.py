"""The process: signals, logs and the service manager round one `Daemon`.

SIGTERM and SIGINT drain within the budget, and a second one stops at once; SIGHUP reads the
configuration again. This module is the outermost of the places that catch everything.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

import structlog
import trio

from streamer.config import Config
from streamer.daemon.logs import Logs
from streamer.daemon.notify import Notifier, keep_watchdog
from streamer.daemon.reload import reload_config
from streamer.daemon.supervisor import Daemon
from streamer.errors import ConfigError, StreamerError
from streamer.pipeline.registry import Registry

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_STOPPED_AT_ONCE = 130

#: The exit status for what the daemon cannot go on after; the command line has the table.
StatusOf = Callable[[BaseException], int]

_log = structlog.get_logger("streamer.daemon")


def run_daemon(load: Callable[[], Config], status_of: StatusOf) -> int:
    """Serve until a signal ends it; the exit code.

    `load` reads the configuration, now and at every SIGHUP. `status_of` is asked about the group
    of our errors and the system's that ended it; a bug is `EXIT_FAILED`.

    Raises:
        ConfigError: the configuration is wrong at the start.
    """
    if sys.flags.optimize:
        sys.stderr.write("streamer does not run under python -O: its assertions are kept on\n")
        return EXIT_FAILED
    config = load()
    _raise_file_limit()
    with Logs(config.log) as logs, Notifier.from_environment(os.environ, os.getpid()) as notifier:
        return trio.run(_main, config, load, status_of, logs, notifier)


def _raise_file_limit() -> None:
    """Take all descriptors that we may have: each session and each written partition needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _main(
    config: Config,
    load: Callable[[], Config],
    status_of: StatusOf,
    logs: Logs,
    notifier: Notifier,
) -> int:
    daemon = Daemon(config, Registry.installed())
    status = EXIT_OK
    try:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                nursery.start_soon(
                    _heed, signals, nursery.cancel_scope, daemon, load, logs, notifier
                )
                async with trio.open_nursery() as serving:
                    await serving.start(daemon.run)
                    notifier.ready("serving")
                    # That the loop turns is what a restart can mend; a stopped partition or a
                    # stalled disk is for /healthz, and the others go on meanwhile.
                    nursery.start_soon(keep_watchdog, notifier, lambda: True)
                nursery.cancel_scope.cancel()
    except* (StreamerError, OSError) as group:
        for line in _messages(group):
            _log.error("cannot go on", error=line)
        status = status_of(group)
    except* Exception as group:
        _log.error("the daemon failed", exc_info=group)
        status = EXIT_FAILED
    if status != EXIT_OK:
        return status
    return EXIT_OK if not daemon.serving else EXIT_STOPPED_AT_ONCE


async def _heed(
    signals: AsyncIterator[int],
    scope: trio.CancelScope,
    daemon: Daemon,
    load: Callable[[], Config],
    logs: Logs,
    notifier: Notifier,
) -> None:
    stopping = False
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            if not daemon.ready:
                _log.warning("not serving now, configuration not read again", signal=name)
                continue
            notifier.reloading()
            _reload(daemon, load, logs)
            notifier.ready("serving")
        elif stopping:
            _log.warning("stopping at once", signal=name)
            scope.cancel()
        else:
            stopping = True
            _log.info("going down", signal=name)
            notifier.stopping()
            daemon.stop()


def _reload(daemon: Daemon, load: Callable[[], Config], logs: Logs) -> None:
    """Take over what can change while it runs; say what cannot."""
    try:
        config = load()
    except ConfigError as error:
        for fault in error.faults:
            _log.error("configuration not taken over", fault=fault)
        return
    outcome = reload_config(daemon.config, config, time.time_ns() // 1000)
    for key in outcome.applied:
        _log.info("setting changed", key=key)
    for key in outcome.refused:
        _log.warning("setting needs a restart", key=key)
    daemon.apply(outcome.config)
    logs.apply(outcome.config.log)
    _log.info("configuration read again", changed=len(outcome.applied))


def _messages(group: BaseExceptionGroup[BaseException]) -> list[str]:
    found = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _messages(error)
        else:
            found.append(str(error))
    return found

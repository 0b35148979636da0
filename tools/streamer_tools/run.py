"""`streamer run`: the daemon, in the foreground, until a signal ends it."""

from __future__ import annotations

import attrs
import click

from streamer_tools.exits import Exit, told
from streamer_tools.options import json_option


@click.command("run")
@click.option("--config", metavar="FILE", help="A TOML file; without one an embedded default.")
@click.option("--data", metavar="DIR", help="The data directory [default: ./streamer-data]")
@click.option(
    "--listen",
    metavar="URL",
    multiple=True,
    help="ws://HOST:PORT, tcp://HOST:PORT or unix:PATH; may be given several times."
    " Port 0 takes any free one.",
)
@click.option("--http", metavar="HOST:PORT", help='Health and metrics; "" for none.')
@json_option
def command(
    config: str | None, data: str | None, listen: tuple[str, ...], http: str | None, as_json: bool
) -> int:
    """Start the daemon and serve until SIGTERM or Ctrl-C.

    It then drains: takes nothing new, finishes what it has, acknowledges, closes. A second signal
    stops it at once. SIGHUP reads the configuration again. The addresses that it listens at are
    in addresses.json in the data directory once it is ready. --json writes the log as JSON.

    Exit status 75 where another daemon has the data directory, 74 where an address cannot be
    listened at, 78 where the configuration is wrong.
    """
    from streamer.config import Config
    from streamer.config_load import load_config
    from streamer.daemon.main import run_daemon
    from streamer.pipeline.registry import Registry

    given = {"data": data, "listen": list(listen) or None, "http": http}

    def load() -> Config:
        loaded = load_config(config, Registry.installed(), given)
        if as_json:
            log = attrs.evolve(loaded.log, format="json")
            origins = loaded.origins.with_origin("log.format", "--json")
            loaded = attrs.evolve(loaded, log=log, origins=origins)
        return loaded

    return run_daemon(load, _status_of)


def _status_of(error: BaseException) -> int:
    story = told(error)
    # A broken pipe is the end of a reader for a command, and a failure for a daemon.
    return (story.status if story is not None else Exit.OK) or Exit.FAILED

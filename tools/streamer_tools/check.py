"""`streamer check`: what is wrong with a configuration, all of it at once."""

from __future__ import annotations

import click

from streamer.errors import ConfigError
from streamer_tools.exits import Exit
from streamer_tools.options import json_option, print_json


@click.command("check")
@click.option("--config", metavar="FILE", required=True, help="The TOML file to check.")
@json_option
def command(config: str, as_json: bool) -> int:
    """Check a configuration without starting anything.

    Exit status 78 where it has faults: a line each on standard error, naming the file, the key,
    what was found and what is allowed.
    """
    from streamer.config_load import load_config
    from streamer.pipeline.registry import Registry

    try:
        load_config(config, Registry.installed())
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"ok": False, "faults": error.faults})
        return Exit.CONFIG
    if as_json:
        print_json({"ok": True, "faults": []})
    else:
        click.echo(f"{config}: no faults")
    return Exit.OK

"""`streamer dlq purge`."""

from __future__ import annotations

from typing import Any

import click

from streamer_tools.asking import yes_option
from streamer_tools.dlq.filters import Filters, filter_options
from streamer_tools.options import json_option, url_option


@click.command("purge")
@click.argument("stream")
@filter_options
@click.option("--dry-run", is_flag=True, help="Say how many, and do nothing.")
@yes_option
@url_option
@json_option
def command(stream: str, dry_run: bool, yes: bool, url: str, as_json: bool, **given: Any) -> None:
    """Drop dead letters of STREAM for good, all or those that the options name.

    Says how many and asks before, unless --yes.
    """
    from streamer_tools.dlq.settling import settle

    settle("purge", url, stream, Filters(**given), ask=not yes, dry_run=dry_run, as_json=as_json)

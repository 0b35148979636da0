"""`streamer dlq redrive`."""

from __future__ import annotations

from typing import Any

import click

from streamer_tools.dlq.filters import Filters, filter_options
from streamer_tools.options import json_option, url_option


@click.command("redrive")
@click.argument("stream")
@filter_options
@click.option("--dry-run", is_flag=True, help="Say how many, and do nothing.")
@url_option
@json_option
def command(stream: str, dry_run: bool, url: str, as_json: bool, **given: Any) -> None:
    """Send dead letters to STREAM again, all or those that the options name.

    They keep key and headers, get new offsets at its end, and are seen by every group; the header
    streamer-redriven counts how often. A letter that dies again comes back as a new one.
    """
    from streamer_tools.dlq.settling import settle

    settle("redrive", url, stream, Filters(**given), ask=False, dry_run=dry_run, as_json=as_json)

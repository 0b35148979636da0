"""`streamer schedule add`."""

from __future__ import annotations

from pathlib import Path

import click

from streamer_tools import show
from streamer_tools.options import json_option, print_json, url_option


def header(text: str) -> tuple[str, bytes]:
    """A header, of `name=value`.

    Raises:
        click.BadParameter: it has no name.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is no header such as name=value")
    return name, value.encode()


@click.command("add")
@click.argument("name")
@click.argument("stream")
@click.option("--cron", required=True, metavar="LINE", help='Such as "*/5 * * * *".')
@click.option("--zone", default="UTC", show_default=True, help="Such as Europe/Berlin.")
@click.option("--value", help="The record's value.")
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The record's value is what this file holds now, byte for byte.",
)
@click.option("--key", help="The record's key.")
@click.option(
    "--header", "headers", type=header, multiple=True, metavar="NAME=VALUE",
    help="A header of the record; may be given several times.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="In place of a schedule with this name.")
@url_option
@json_option
def command(
    name: str,
    stream: str,
    cron: str,
    zone: str,
    value: str | None,
    file: Path | None,
    key: str | None,
    headers: tuple[tuple[str, bytes], ...],
    replace: bool,
    url: str,
    as_json: bool,
) -> None:
    """Send a record to STREAM whenever a cron line says so, under the NAME of the schedule.

    The schedule is kept in the log: it goes on after a restart. Without --value and --file the
    value is empty.
    """
    from streamer_tools.asking import ask

    if value is not None and file is not None:
        raise click.UsageError("--value and --file: a record has one value")
    answer = ask(
        url,
        "schedule_add",
        name=name,
        stream=stream,
        cron=cron,
        zone=zone,
        value=file.read_bytes() if file is not None else (value or "").encode(),
        key=None if key is None else key.encode(),
        headers=dict(headers),
        replace=replace,
    )
    if as_json:
        print_json({"name": name, "stream": stream, **answer})
    else:
        click.echo(f"{name}: sends to {stream} next at {show.moment(answer['next_us'])}")

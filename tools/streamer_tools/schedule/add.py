"""`streamer schedule add`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from streamer_tools import running, show
from streamer_tools.exits import Exit, Told
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

    A cron line has five fields: minute, hour, day of month, month, day of week. The schedule is
    kept in the log: it goes on after a restart. Without --value and --file the
    value is empty.
    """

    if value is not None and file is not None:
        raise click.UsageError("--value and --file: a record has one value")
    schedule = {
        "name": name,
        "stream": stream,
        "cron": cron,
        "zone": zone,
        "value": file.read_bytes() if file is not None else (value or "").encode(),
        "key": None if key is None else key.encode(),
        "headers": dict(headers),
        "replace": replace,
    }
    answer = running.run(_add, url, schedule)
    if as_json:
        print_json({"name": name, "stream": stream, **answer})
    else:
        click.echo(f"{name}: sends to {stream} next at {show.moment(answer['next_us'])}")


async def _add(url: str, schedule: dict[str, Any]) -> Any:
    from streamer.client import connect
    from streamer.errors import BadRequest

    name = schedule["name"]
    async with connect(url, name="streamer schedule add") as client:
        try:
            return await client.admin("schedule_add", schedule)
        except BadRequest as error:
            # A name that is taken is refused before anything else; programs are told so in theirs.
            if schedule["replace"] or name not in [
                each["name"] for each in await client.admin("schedules")
            ]:
                raise
            raise Told(
                Exit.FAILED, f"schedule {name!r} is there already: --replace changes it"
            ) from error

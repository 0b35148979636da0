"""`streamer verify`: every checksum of a data directory, offline and read-only.

Rules: a finding is printed when it is found, a line each; what is whole is summed up at the end.
A torn tail or a bad sidecar is named and no failure: the next start puts it right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from streamer_tools import show
from streamer_tools.exits import Exit
from streamer_tools.options import json_option, print_json
from streamer_tools.printing import print_rows

if TYPE_CHECKING:
    from streamer.storage.verify import Finding

COLUMNS = (
    show.Column("stream", "stream"),
    show.Column("partition", "partition"),
    show.Column("segments", "segments", show.figure),
    show.Column("batches", "batches", show.figure),
    show.Column("records", "records", show.figure),
    show.Column("bytes", "nbytes", show.size),
    show.Column("first", "first_offset", show.figure),
    show.Column("next", "next_offset", show.figure),
    show.Column("findings", "findings", show.figure),
)


@click.command("verify")
@click.argument("directory")
@json_option
def command(directory: str, as_json: bool) -> int:
    """Check every checksum of a data DIRECTORY; nothing is changed, and no daemon is needed.

    Names the file, the bytes and the offsets of each damage. Exit status 1 where there is damage;
    a torn tail, which the next start cuts off, is named and no failure. On the directory of a
    running daemon, a write that is under way may look like one.
    """
    from streamer.storage.files import RealFiles
    from streamer.storage.verify import Finding, verify_directory

    findings, partitions = [], []
    for found in verify_directory(RealFiles(), directory):
        if not isinstance(found, Finding):
            partitions.append(attrs.asdict(found))
            continue
        findings.append(found)
        if not as_json:
            click.echo(line(found))
    ok = all(found.harmless for found in findings)
    if as_json:
        shown = [attrs.asdict(found) | {"harmless": found.harmless} for found in findings]
        print_json({"ok": ok, "findings": shown, "partitions": partitions})
    else:
        print_rows(COLUMNS, partitions)
        if not findings:
            click.echo("all checksums are right")
    return Exit.OK if ok else Exit.FAILED


def line(found: Finding) -> str:
    """A finding in one line: what, where, which bytes, which offsets, why."""
    where = f"{found.kind.value}: stream {show.printable(found.stream.encode())}"
    if found.partition is not None:
        where += f", partition {found.partition}"
    where += f": {found.file}"
    if found.first_offset is not None:
        where += f", bytes {found.position} to {found.position + found.nbytes}"
        where += f", offsets {found.first_offset} to "
        where += "the end" if found.next_offset is None else str(found.next_offset - 1)
    return f"{where}: {found.reason}"

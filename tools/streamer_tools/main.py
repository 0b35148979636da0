"""The console script `streamer`: finds the command, and turns what it raises into a status.

Rules: `COMMANDS` is the table of contents; a command's module is imported when it is called, and
`streamer --help` reads the table alone. Errors rise to `Cli.main`, the one place that prints them:
a plain sentence for what we know, a traceback for a bug.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from streamer_tools.exits import MEANINGS, Exit, Told, told
from streamer_tools.lazy import Lazy

#: command: (module of `streamer_tools`, one line of help). The module's `command` is the command.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Start the daemon."),
    "check": ("check", "Check a configuration without starting anything."),
    "produce": ("produce", "Send a file's lines to a stream, a record a line."),
    "consume": ("consume", "Write a stream's records to standard output, one a line."),
    "streams": ("streams", "List the streams and their partitions."),
    "queues": ("queues", "Show what waits in each pipeline, against its limits."),
    "top": ("top.command", "Watch a daemon live: channels, groups, streams, sessions, events."),
    "tap": ("tap", "Watch what passes at points of the pipelines, as it happens."),
    "trace": ("trace", "Follow the next append of a stream through the stages, as bars."),
    "events": ("events", "What happened in the daemon, and what happens."),
    "graph": ("graph.command", "Draw pipelines, streams and groups, as text or SVG."),
    "peek": ("peek", "Show one record and the batch it is in."),
    "find": ("find", "Find records by key, time, content, header or producer."),
    "groups": ("groups", "List the consumer groups: members, lag, what is out, what died."),
    "lag": ("lag", "Show how far each group is behind, or check it against a limit."),
    "group": ("group", "Show, make, change, pause, move or delete a consumer group."),
    "dlq": ("dlq", "Look at the records that died, give them out again, or drop them."),
    "schedule": ("schedule", "Records that are sent again and again, by a cron line."),
    "sla": ("sla", "Show the service levels; the status says whether they are met."),
    "doctor": ("doctor", "Run every check against a live daemon; a plug-in for monitoring."),
    "describe": ("describe", "Everything about one stream, group, pipeline, session or daemon."),
    "gaps": ("gaps", "Show where a stream's log is not whole."),
    "verify": ("verify", "Check every checksum of a data directory, offline."),
    "dict": ("dictionary", "Train a compression dictionary for a stream."),
    "bench": ("bench.command", "Measure throughput and latency on this machine."),
    "tune": ("tune.command", "Find better settings for a workload, by measuring."),
    "demo": ("demo", "Send a log file through a daemon of its own, and watch it."),
}


class Cli(Lazy):
    """The outermost group: the only place where an error becomes a text and a status."""

    table = COMMANDS

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit statuses"):
            formatter.write_dl([(str(int(status)), text) for status, text in MEANINGS.items()])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _told_before_click():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _told_before_click():
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run, and leave through `SystemExit` with the status of `exits.MEANINGS`."""
        extra["standalone_mode"] = False
        with contextlib.ExitStack() as stack:
            if sys.stdout is None:
                stack.enter_context(contextlib.redirect_stdout(ClosedOutput()))
            _write_what_can_be_written(sys.stdout)
            sys.exit(_status(lambda: super(Cli, self).main(args, *rest, **extra)))


class ClosedOutput(io.TextIOBase):
    """Stands for a standard output that is closed: click would drop what is written to none."""

    def write(self, text: str) -> int:
        raise Told(Exit.IO, "standard output is closed")

    def fileno(self) -> int:
        raise Told(Exit.IO, "standard output is closed")


def _write_what_can_be_written(output: Any) -> None:
    """Have a `?` stand for a character that the terminal's encoding lacks (a frame, a `≤`, a name
    in another script), rather than end with an error in the middle."""
    if isinstance(output, io.TextIOWrapper) and output.errors in ("strict", "surrogateescape"):
        output.reconfigure(errors="replace")


def _status(call: Any) -> int:
    try:
        outcome = call()
        _flush()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BaseException as error:
        story = told(error)
        if story is None:
            raise
        from streamer_tools.show import escaped

        # A fault begins with its file, as a compiler's messages do.
        who = "" if story.status is Exit.CONFIG else "streamer: "
        for line in story.lines:
            click.echo(f"{who}{escaped(line)}", err=True)
        _forget_broken_output()
        return story.status
    return outcome if isinstance(outcome, int) else Exit.OK


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _forget_broken_output() -> None:
    """Where standard output is broken, keep the interpreter from flushing into it once more."""
    try:
        _flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@contextlib.contextmanager
def _told_before_click() -> Iterator[None]:
    """What click would deal with by itself as `Told`: a broken pipe would have status 1, and an
    interrupt would be a line without text."""
    try:
        yield
    except BrokenPipeError as error:
        raise Told(Exit.OK) from error
    except KeyboardInterrupt as error:
        raise Told(Exit.INTERRUPTED) from error


@click.command(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="streamer", message="streamer %(version)s")
def main() -> None:
    """A durable stream processor with no broker to run.

    The commands find the daemon by --url, else STREAMER_URL, else ws://127.0.0.1:4440.
    """

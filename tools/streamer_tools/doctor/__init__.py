"""`streamer doctor`: every check against a live daemon, in one command, for people and monitoring.

Rules: one question after another would be as slow as the slowest, so all is asked at once
(`documents`), judged by functions that ask nothing (`checks`), and told in the words of monitoring
plug-ins (`findings`). The statuses are theirs too, also for a command line that is wrong (3), which
is why this command alone does not follow `exits`.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import click

from streamer_tools import running, show
from streamer_tools.doctor.findings import Level, Result, summary, worst
from streamer_tools.doctor.thresholds import DEFAULTS, changed
from streamer_tools.options import duration, is_terminal, json_option, print_json, url_option

_COLOURS = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.CRITICAL: "red",
    Level.UNKNOWN: "magenta",
}


class _Unusable(click.UsageError):
    """A wrong command line, with the status of a plug-in that could not check."""

    exit_code = int(Level.UNKNOWN)

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message(), error.ctx)

    def show(self, file: Any = None) -> None:
        # Monitoring systems show what is on standard output.
        click.echo(f"UNKNOWN - {show.escaped(self.message)}")
        super().show(file)


class Plugin(click.Command):
    """A command with the statuses of a plug-in, whatever happens."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            raise _Unusable(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _Unusable(error) from error
        except Exception as error:
            from streamer_tools.exits import told

            if told(error) is not None:
                raise
            # A bug: its own status would read as a warning.
            click.echo(f"UNKNOWN - the doctor failed: {type(error).__name__}")
            traceback.print_exc()
            return int(Level.UNKNOWN)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Thresholds (warning, critical)"):
            formatter.write_dl(
                [
                    (name, f"{t.help} ({t.text(t.warning)}, {t.text(t.critical)})")
                    for name, t in DEFAULTS.items()
                ]
            )


def _names(_: click.Context, __: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    from streamer_tools.doctor.checks import CHECKS

    for name in given:
        if name not in CHECKS:
            raise click.BadParameter(f"{name!r} is none of: {', '.join(CHECKS)}")
    return given


@click.command("doctor", cls=Plugin)
@click.option(
    "-w", "--warning", "warnings", multiple=True, metavar="NAME=VALUE",
    help="Warn from there on: disk=15%, fsync=50ms, dead=10, lag-age=none.",
)  # fmt: skip
@click.option(
    "-c", "--critical", "criticals", multiple=True, metavar="NAME=VALUE",
    help="Critical from there on. The names are below; each option may be given several times.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="CHECK", callback=_names, help="This check and no other."
)
@click.option(
    "--skip", multiple=True, metavar="CHECK", callback=_names, help="All checks but this one."
)
@click.option(
    "--timeout", "timeout_s", type=duration, default="10s", show_default=True, metavar="TIME",
    help="For all of it; what is not answered by then is unknown or critical.",
)  # fmt: skip
@url_option
@json_option
def command(
    warnings: Sequence[str],
    criticals: Sequence[str],
    only: Sequence[str],
    skip: Sequence[str],
    timeout_s: float,
    url: str,
    as_json: bool,
) -> int:
    """Run every check against a live daemon; a plug-in for monitoring systems.

    The first line is the summary that monitoring plug-ins print, with figures for graphs; then a
    line a check, with what to do about it.

    Exit status 0 where all is well, 1 for a warning, 2 where something is critical (no daemon is),
    3 where something could not be found out, or the command line is wrong.
    """
    from streamer import __version__
    from streamer_tools.doctor.checks import CHECKS, examine
    from streamer_tools.doctor.documents import gather

    limits = changed(warnings, criticals)
    names = [name for name in CHECKS if name not in skip and (not only or name in only)]
    if not names:
        raise click.UsageError("--only and --skip leave no check")
    documents = running.run(gather, url, __version__, timeout_s)
    results = examine(documents, limits, names)
    level = worst(result.finding.level for result in results)
    if as_json:
        print_json(_json(url, level, results))
    else:
        _print(results)
    return int(level)


def _print(results: Sequence[Result]) -> None:
    click.echo(show.escaped(summary(results)))
    colours = is_terminal("stdout")
    for result in results:
        line = show.escaped(result.line)
        if colours:
            level = result.finding.level
            line = click.style(line[:8], fg=_COLOURS[level], bold=bool(level)) + line[8:]
        click.echo(line)


def _json(url: str, level: Level, results: Sequence[Result]) -> dict[str, Any]:
    return {
        "status": level.name,
        "code": int(level),
        "url": url,
        "checks": [
            {
                "check": result.name,
                "status": result.finding.level.name,
                "text": result.finding.text,
                "advice": result.finding.advice,
                "figures": [
                    {"name": f.name, "value": f.value, "unit": f.unit, "warning": f.warning,
                     "critical": f.critical}
                    for f in result.finding.figures
                ],
            }
            for result in results
        ],
    }  # fmt: skip

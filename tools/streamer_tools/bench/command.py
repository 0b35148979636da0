"""`streamer bench`: named benchmarks, their options, the report.

Rules: one JSON document, on standard output or in `--output FILE`; what is for a person goes to
standard error. The names come from the entry points of installed packages and are listed without
importing any of them; a benchmark is imported when it is named. Without `--url` the daemon is a
subprocess in a new directory, so a run starts from nothing and leaves nothing behind; with it,
streams named `bench-...` stay in that daemon.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer_tools.exits import Exit, Told
from streamer_tools.options import checked_url, duration, json_option

if TYPE_CHECKING:
    from streamer_tools.bench.contract import Benchmark
    from streamer_tools.bench.registry import Benchmarks
    from streamer_tools.bench.runner import Bench

#: What our own benchmarks say in a list, which imports none of them.
OURS = {
    "produce": "Whole batches by send_batch, several under way.",
    "post": "One record a call by post; the client groups them.",
    "single": "One record each and its ack awaited, on --clients connections.",
    "shared": "One record each, in --clients tasks that share one client.",
    "consume": "Read everything back, to Python values.",
    "group": "As a member of a group: acks by the batch, then one by one.",
    "latency": "A steady --rate, timed from send to receive.",
    "swing": "A rate that swings tenfold: adaptive groups against fixed ones.",
    "swing-load": "The load of swing by itself, timed from when each record was due.",
    "watched": "What it costs to look: produce with top, three taps and the console.",
    "leases": "Very many deliveries out at once: memory, CPU while they wait, redelivery.",
    "limits": "What codec, checksum, disk and loopback do by themselves.",
}

#: Other commands of the group; no benchmark can have their names.
_COMMANDS = {
    "list": "List the benchmarks that are installed, with the packages they come from.",
    "show": "Show a result again: its figures, a comparison, its report.",
}

_OWN_DAEMON = {"transport": "--transport", "config": "--config", "directory": "--data"}


class _Benches(click.Group):
    """The benchmarks that are installed, as commands; `Benchmarks` may come as the context's
    object."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_sorted_names(_benchmarks(ctx)), *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "list":
            return list_command
        if cmd_name == "show":
            return show_command
        benchmarks = _benchmarks(ctx)
        return _make(benchmarks.get(cmd_name)) if cmd_name in benchmarks.names else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        benchmarks = _benchmarks(ctx)
        with formatter.section("Benchmarks"):
            names = _sorted_names(benchmarks)
            formatter.write_dl([(name, _help(benchmarks, name)) for name in names])
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group("bench", cls=_Benches)
def command() -> None:
    """Measure throughput and latency on this machine.

    Each benchmark starts a daemon of its own, in a directory that is removed again, unless --url
    names a running one; STREAMER_URL is not heeded. It prints one JSON document: medians of
    --repeats with their spread and every repeat, CPU seconds and peak memory of both processes,
    bytes on disk a record, what the machine can do at best and what else it did. Values are seeded
    JSON log lines. Packages bring further benchmarks by the entry-point group streamer.benchmarks.
    """


@click.command("list")
@json_option
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List the benchmarks that are installed, with the packages they come from."""
    benchmarks = _benchmarks(ctx)
    rows = [
        {"name": name, "package": benchmarks.entry(name).package, "help": _help(benchmarks, name)}
        for name in _sorted_names(benchmarks)
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['help']}")


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare it with an earlier result.",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write its report.")
@json_option
def show_command(file: Path, against: Path | None, html: Path | None, as_json: bool) -> None:
    """Show a result again: its figures, a comparison, its report."""
    from streamer_tools.bench import compare

    document = compare.load(file)
    if against is not None:
        earlier = compare.load(against)
        compare.check(earlier, document["workload"], document["settings"], {})
        document["comparison"] = compare.compare(earlier, document, str(against))
    _give(document, as_json, None, html)


def _benchmarks(ctx: click.Context) -> Benchmarks:
    from streamer_tools.bench.registry import Benchmarks

    return ctx.find_object(Benchmarks) or Benchmarks.installed()


def _sorted_names(benchmarks: Benchmarks) -> list[str]:
    """Our own in their order, then those of others."""
    names = benchmarks.names
    ours = [name for name in OURS if name in names]
    return ours + [name for name in names if name not in OURS]


def _help(benchmarks: Benchmarks, name: str) -> str:
    entry = benchmarks.entry(name)
    if name in OURS and entry.package in ("", "streamer"):
        return OURS[name]
    return f"From the package {entry.package or 'of its own'} ({entry.value})."


def _make(benchmark: Benchmark) -> click.Command:
    from streamer_tools.bench import settings as bench_settings

    def run(**given: Any) -> int:
        return _measure(benchmark, given)

    parameters: list[click.Parameter] = [
        *bench_settings.options(benchmark.settings),
        click.Option(["--repeats"], type=click.IntRange(min=1), default=benchmark.repeats,
                     show_default=True, help="Runs of which medians are taken."),
        click.Option(["--quiet", "quiet_s"], type=duration, default="0s", show_default=True,
                     metavar="TIME", help="So long in all, wait for other programs to be quiet, and"
                     " make disturbed runs again."),
        *(_daemon_options() if benchmark.daemon else []),
        *_report_options(),
    ]  # fmt: skip
    text = benchmark.open.__doc__ or ""
    help_text = f"{benchmark.help}\n\n{text}" if text else benchmark.help
    return click.Command(benchmark.name, params=parameters, callback=run, help=help_text)


def _daemon_options() -> list[click.Parameter]:
    return [
        click.Option(["--transport"], type=click.Choice(["ws", "unix", "tcp"]),
                     help="To the daemon of its own [default: ws]"),
        click.Option(["--config"], metavar="FILE", help="Configuration of the daemon of its own."),
        click.Option(["--data", "directory"], metavar="DIR",
                     help="Where its data goes, in a directory that is removed again"
                     " [default: the system's temporary directory]"),
        click.Option(["--url"], metavar="URL", callback=checked_url,
                     help="A running daemon in place of one of its own."),
    ]  # fmt: skip


def _report_options() -> list[click.Parameter]:
    path = click.Path(path_type=Path, dir_okay=False)
    return [
        click.Option(["--against"], type=path, metavar="FILE",
                     help="Compare with an earlier result."),
        click.Option(["--fail-below"], type=click.FloatRange(min=0, min_open=True), metavar="RATIO",
                     help="With --against: status 1 where a rate, or the inverse of a latency's"
                     " p50 or p99, is below that ratio, beyond the spread of the repeats."),
        click.Option(["--output", "-o"], type=path, metavar="FILE",
                     help="Write the JSON there in place of standard output."),
        click.Option(["--html"], type=path, metavar="FILE",
                     help="Write a report for people: one page with plots."),
        click.Option(["--json", "as_json"], is_flag=True, help="JSON on one line."),
    ]  # fmt: skip


def _measure(benchmark: Benchmark, given: dict[str, Any]) -> int:
    from streamer_tools.bench import compare, document
    from streamer_tools.bench import settings as bench_settings

    settings = bench_settings.make(benchmark.settings, given)
    fault = benchmark.fault(settings)
    if fault is not None:
        raise click.UsageError(fault)
    bench = _bench(benchmark, given)
    against: Path | None = given["against"]
    if given["fail_below"] is not None and against is None:
        raise click.UsageError("--fail-below goes with --against")
    earlier = None
    if against is not None:
        # Before anything is measured: a refusal after ten minutes would be unkind.
        earlier = compare.load(against)
        shown = document.used_settings(benchmark, settings, bench, given["repeats"])
        compare.check(earlier, benchmark.name, shown, compare.defaults(benchmark.settings))
    _check_writable(given["output"], given["html"])
    found = document.measure(benchmark, settings, bench, given["repeats"])
    if earlier is not None:
        found["comparison"] = compare.compare(earlier, found, str(against))
    _give(found, given["as_json"], given["output"], given["html"])
    return _status(found, given["fail_below"])


def _bench(benchmark: Benchmark, given: dict[str, Any]) -> Bench:
    from streamer_tools.bench.quiet import Quiet
    from streamer_tools.bench.runner import Bench

    def say(text: str) -> None:
        click.echo(text, err=True)

    quiet = Quiet(given["quiet_s"], say) if given["quiet_s"] else None
    if not benchmark.daemon:
        return Bench(say=say, quiet=quiet)
    if given["url"] is not None:
        for name, option in _OWN_DAEMON.items():
            if given[name] is not None:
                raise click.UsageError(f"{option} is for a daemon of its own: not with --url")
    if benchmark.own_configs:
        for option in ("url", "config"):
            if given[option] is not None:
                raise click.UsageError(
                    f"--{option}: {benchmark.name} starts daemons of its own, each with a "
                    "configuration made for it"
                )
    directory = Path(given["directory"]) if given["directory"] else None
    return Bench(given["transport"], given["config"], directory, given["url"], say, quiet=quiet)


def _check_writable(*files: Path | None) -> None:
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise Told(Exit.IO, f"{file}: there is no directory {file.parent}")


def _give(found: dict[str, Any], as_json: bool, output: Path | None, html: Path | None) -> None:
    """Write the document, its report, and what a person reads."""
    from streamer_tools.bench import telling

    text = json.dumps(found, indent=None if as_json else 2)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n")
    if html is not None:
        from streamer_tools.bench import page

        html.write_text(page.render(found))
    for line in telling.lines(found):
        click.echo(line, err=True)


def _status(found: dict[str, Any], fail_below: float | None) -> int:
    from streamer_tools.bench import compare

    if fail_below is None:
        return Exit.OK
    failures = compare.below(found["comparison"], fail_below)
    if failures:
        raise Told(Exit.FAILED, *failures)
    return Exit.OK

"""`streamer bench`: the options, the daemon of its own, the repeats, the report.

Rules: one JSON document on standard output, whatever is measured; one line for a person on
standard error. Without `--url` the daemon is a subprocess in a new directory, so a run starts from
nothing and leaves nothing behind; with it, streams named `bench-...` stay in that daemon.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click

from streamer_tools.options import checked_url, duration, json_option

_WARM_UP_RECORDS = 1000
_TRANSPORT = "ws"


@attrs.frozen
class Defaults:
    """What a workload does when nothing is said, its help, and the options that only some have."""

    help: str
    records: int
    options: tuple[str, ...]
    clients: int = 1
    batch: int = 1000


WORKLOADS: dict[str, Defaults] = {
    "produce": Defaults(
        "Whole batches by send_batch, several under way.",
        1_000_000,
        ("batch", "clients", "in_flight"),
    ),
    "post": Defaults(
        "One record a call by post; the client groups them.", 500_000, ("batch", "clients")
    ),
    "single": Defaults(
        "One record each and its ack awaited, on --clients connections.", 20_000, ("clients",), 64
    ),
    "shared": Defaults(
        "One record each, in --clients tasks that share one client.",
        100_000,
        ("batch", "clients"),
        64,
    ),
    "consume": Defaults("Read everything back, to Python values.", 1_000_000, ("batch",)),
    "group": Defaults(
        "As a member of a group: acks by the batch, then one by one.",
        1_000_000,
        ("batch", "in_flight", "single_records"),
    ),
    "latency": Defaults("A steady --rate, timed from send to receive.", 25_000, ("rate",)),
}

#: What every workload takes, and what goes with a daemon of its own only.
_COMMON = ("records", "value_bytes", "repeats", "seed")
_OWN_DAEMON = ("transport", "config", "directory")


@attrs.frozen
class Settings:
    """The command line of one benchmark; an option that the workload has not keeps its default."""

    records: int
    value_bytes: int
    repeats: int
    seed: int
    #: None: what the address says, or ws.
    transport: str | None
    config: str | None
    directory: str | None
    url: str | None
    batch: int = 1000
    clients: int = 1
    in_flight: int = 8
    rate: float = 5000.0
    single_records: int = 200_000

    def check(self) -> None:
        """Refuse what a running daemon cannot be told.

        Raises:
            click.UsageError: an option for a daemon of its own beside `--url`.
        """
        for name, option in zip(_OWN_DAEMON, ("--transport", "--config", "--data"), strict=True):
            if self.url is not None and getattr(self, name) is not None:
                raise click.UsageError(f"{option} is for a daemon of its own: not with --url")

    def used(self, workload: str) -> dict[str, Any]:
        """What the workload did use, for its report."""
        from streamer.addresses import parse

        names = (*_COMMON, *WORKLOADS[workload].options)
        shown = {name: getattr(self, name) for name in names}
        if self.url is not None:
            return shown | {"url": self.url, "transport": parse(self.url).scheme}
        own = {"config": self.config, "directory": self.directory}
        return shown | {"transport": self.transport or _TRANSPORT} | own


@click.group("bench")
def command() -> None:
    """Measure throughput and latency on this machine.

    Each workload starts a daemon of its own, in a directory that is removed again, unless --url
    names a running one; STREAMER_URL is not heeded. It prints one JSON document: medians of
    --repeats and every repeat, CPU seconds and peak memory of both processes, bytes on disk a
    record, and what the machine can do at best. Values are seeded JSON log lines.
    """


def _options(defaults: Defaults) -> list[Any]:
    positive = click.IntRange(min=1)
    some = {
        "batch": click.option(
            "--batch", type=positive, default=defaults.batch, show_default=True,
            help="Records in a batch, or the most that the client groups."),
        "clients": click.option(
            "--clients", type=positive, default=defaults.clients, show_default=True,
            help="Connections; for shared: tasks of one client."),
        "in_flight": click.option(
            "--in-flight", type=click.IntRange(1, 64), default=8, show_default=True,
            help="Batches under way in a client."),
        "rate": click.option(
            "--rate", type=click.FloatRange(min=1), default=5000, show_default=True,
            help="Records a second."),
        "single_records": click.option(
            "--single-records", type=positive, default=200_000, show_default=True,
            help="Of the records, so many are acked one by one as well."),
    }  # fmt: skip
    return [
        click.option("--records", type=positive, default=defaults.records, show_default=True),
        click.option("--value-bytes", type=positive, default=100, show_default=True),
        *(some[name] for name in defaults.options),
        click.option("--repeats", type=positive, default=3, show_default=True),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the values."),
        click.option("--transport", type=click.Choice(["ws", "unix", "tcp"]),
                     help=f"To the daemon of its own [default: {_TRANSPORT}]"),
        click.option("--config", metavar="FILE", help="Configuration of the daemon of its own."),
        click.option("--data", "directory", metavar="DIR",
                     help="Where its data goes, in a directory that is removed again"
                     " [default: the system's temporary directory]"),
        click.option("--url", metavar="URL", callback=checked_url,
                     help="A running daemon in place of one of its own."),
        json_option,
    ]  # fmt: skip


def _make(name: str, defaults: Defaults) -> click.Command:
    def run(as_json: bool, **given: Any) -> None:
        settings = Settings(**given)
        settings.check()
        _print(measure(name, settings), as_json)

    run.__doc__ = defaults.help
    for option in reversed(_options(defaults)):
        run = option(run)
    return click.command(name)(run)


for _name, _defaults in WORKLOADS.items():
    command.add_command(_make(_name, _defaults))


@command.command("limits")
@click.option("--value-bytes", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--data", "directory", metavar="DIR", help="Measure the disk that holds it.")
@json_option
def limits(value_bytes: int, batch: int, directory: str | None, as_json: bool) -> None:
    """What codec, checksum, disk and loopback do by themselves: the bounds of the rest."""
    from streamer_tools.bench import limits, machine

    where = Path(directory or tempfile.gettempdir())
    found = limits.measure(where, value_bytes, batch)
    document = {
        "workload": "limits",
        "settings": {"value_bytes": value_bytes, "batch": batch},
        **found,
        "machine": machine.facts(where),
        "versions": machine.versions(),
    }
    click.echo(json.dumps(document, indent=None if as_json else 2))


@command.command("leases")
@click.option("--leases", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--partitions", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "--ack-wait",
    "ack_wait_s",
    type=duration,
    default="30m",
    show_default=True,
    metavar="TIME",
    help="How long a lease lasts, by the run's own clock.",
)
@click.option(
    "--waiting",
    "waiting_s",
    type=duration,
    default="10m",
    show_default=True,
    metavar="TIME",
    help="How long they all wait, by the run's own clock; below --ack-wait.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@json_option
def leases(
    leases: int, partitions: int, ack_wait_s: float, waiting_s: float, repeats: int, as_json: bool
) -> None:
    """Very many deliveries out at once: their memory, their CPU while they wait, redelivery.

    Runs the daemon's own structures without a daemon. Leases of one record each are handed out,
    wait, are prolonged, run out, and are handed out again one by one and acked.
    """
    from streamer_tools.bench import leases as bench
    from streamer_tools.bench import machine, results

    plan = bench.Plan(leases, partitions, ack_wait_s, waiting_s)
    plan.check()
    runs = [results.rounded(run) for run in bench.measure(plan, repeats)]
    document = {
        "workload": "leases",
        "settings": attrs.asdict(plan) | {"repeats": repeats},
        "median": results.median(runs),
        "repeats": runs,
        "machine": machine.facts(Path(tempfile.gettempdir())),
        "versions": machine.versions(),
    }
    click.echo(json.dumps(document, indent=None if as_json else 2))
    click.echo(bench.headline(document), err=True)


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Run a workload as often as asked; the document to print.

    Raises:
        ConnectionFailed: no daemon answers at the URL that was given.
        Told: the daemon of its own did not start.
    """
    import trio

    from streamer_tools.bench import machine, process, results, workloads
    from streamer_tools.bench.values import POOL_RECORDS, log_lines

    where = Path(settings.directory or tempfile.gettempdir())
    facts = machine.facts(where)
    pool = log_lines(max(settings.batch, min(settings.records, POOL_RECORDS)),
                     settings.value_bytes, settings.seed)  # fmt: skip
    runs = []
    with _daemon(settings) as (url, pid):
        plan = workloads.Plan(
            url, pool, settings.records, settings.batch, settings.clients, settings.in_flight,
            settings.rate, pid, settings.single_records,
        )  # fmt: skip
        click.echo(f"{name}: against {url}", err=True)
        # The first run would pay for loading code, on both sides.
        warm_up = attrs.evolve(plan, records=min(plan.records, _WARM_UP_RECORDS))
        trio.run(_repeat, name, warm_up, f"bench-{name}-warm-up-{secrets.token_hex(4)}")
        for number in range(settings.repeats):
            run = trio.run(_repeat, name, plan, f"bench-{name}-{secrets.token_hex(4)}")
            runs.append(run)
            rate = run.records / run.seconds
            click.echo(f"{name} {number + 1}/{settings.repeats}: {rate:,.0f} records/s", err=True)
        peak = {
            "client": process.peak_rss_bytes(os.getpid()),
            "daemon": process.peak_rss_bytes(pid),
        }
    return results.report(
        name,
        settings.used(name),
        runs,
        peak_rss_bytes=peak,
        machine=facts,
        versions=machine.versions(),
    )


async def _repeat(name: str, plan: Any, stream: str) -> Any:
    from streamer_tools.bench import workloads

    if name in ("consume", "group"):
        await workloads.fill(plan, stream)
    run = await getattr(workloads, name)(plan, stream)
    return attrs.evolve(run, disk_bytes=await workloads.stored_bytes(plan.url, stream))


@contextmanager
def _daemon(settings: Settings) -> Iterator[tuple[str, int | None]]:
    if settings.url is not None:
        yield settings.url, None
        return
    from streamer_tools.own_daemon import own_daemon

    arguments = ["--config", settings.config] if settings.config else []
    parent = Path(settings.directory) if settings.directory else None
    with own_daemon(parent, arguments) as daemon:
        yield daemon.url(settings.transport or _TRANSPORT), daemon.pid


def _print(document: dict[str, Any], as_json: bool) -> None:
    from streamer_tools.bench.results import headline

    click.echo(json.dumps(document, indent=None if as_json else 2))
    click.echo(headline(document), err=True)

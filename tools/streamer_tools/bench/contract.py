"""What a benchmark is: the contract for our own and for those of other packages.

A package brings a benchmark by an entry point in the group `streamer.benchmarks` that names an
object of the class `Benchmark`; `streamer bench NAME` then runs it, and `streamer bench --help`
lists it. It is imported when it is named and not before.

    @attrs.frozen
    class EchoSettings:
        records: int = setting(10_000, "records to send", min=1)

    @asynccontextmanager
    async def open_echo(settings, target):
        async with connect(target.url) as client:           # set-up

            async def run():
                with Watch(target.pid) as watch:
                    ...                                     # what is timed
                return watch.measurement(settings.records, nbytes, latencies_s)

            yield run
                                                            # clean-up

    BENCHMARK = Benchmark("echo", "There and back.", EchoSettings, open_echo)

`Watch` is `streamer_tools.bench.watch.Watch`. The entry point in the package's metadata is

    [project.entry-points."streamer.benchmarks"]
    echo = "my_package.echo:BENCHMARK"

Rules:

- One run is: enter `open`, call what it yields once, leave. Set-up and clean-up lie outside the
  figures because they lie outside what is called. Cancellation (Ctrl-C) leaves through the same
  door, so what `open` acquired it gives back.
- The first run in each daemon is the warm-up, with the settings that `warm` makes of the given
  ones; its figures are dropped.
- Repeats, medians, spread, noise, comparison and reports are the framework's. A benchmark returns
  figures and knows nothing of them.
- All that a benchmark may know comes in as arguments; there is no present benchmark anywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

import attrs

#: The entry-point group.
GROUP = "streamer.benchmarks"

#: What a warm-up sends at most, where the settings have `records`.
WARM_UP_RECORDS = 1000


@attrs.frozen
class Target:
    """The daemon that a run measures."""

    #: Where it listens, in the transport that was asked for.
    url: str
    #: Its process, for CPU and memory; None where it is none of ours.
    pid: int | None = None
    #: A name for a stream of this run's own; nobody else uses it.
    stream: str = "bench"


@attrs.frozen
class Measurement:
    """One run: how much went through, how long it took, what it cost."""

    records: int
    #: Bytes of the values.
    nbytes: int
    seconds: float
    #: Times of single operations, in seconds; empty where the workload has none.
    latencies_s: Sequence[float] = ()
    #: CPU seconds during the run; None where they cannot be read.
    client_cpu_s: float | None = None
    daemon_cpu_s: float | None = None
    #: What the records take on the daemon's disk.
    disk_bytes: int | None = None
    #: Further figures of the workload, by name; names end in units.
    extra: Mapping[str, float] = attrs.Factory(dict)
    #: When each of `latencies_s` belongs on the run's time line, in seconds since its begin; empty
    #: where the workload has no time line. An operation stands for
    #: `records / len(latencies_s)` records.
    at_s: Sequence[float] = ()
    #: The most memory that each process had resident during the run; the framework fills it in.
    client_peak_rss_bytes: int | None = None
    daemon_peak_rss_bytes: int | None = None


#: What a run gives back: a `Measurement`, or, for what sends no records, figures by name. Maps may
#: lie inside; values are numbers.
Result: TypeAlias = Measurement | Mapping[str, Any]

#: What `open` yields: the timed part of a run.
Run: TypeAlias = Callable[[], Awaitable[Result]]


class Opener(Protocol):
    """Sets a run up, yields what is timed, and cleans up."""

    def __call__(self, settings: Any, target: Target, /) -> AbstractAsyncContextManager[Run]: ...


@attrs.frozen
class Case:
    """One thing that is measured: settings, and the daemon to measure them on.

    Most benchmarks have one. Those that compare have several, which are measured in turns: each
    repeat goes through all of them, so that a slow minute hits them alike.
    """

    name: str
    settings: Any
    #: A configuration file's text, for a daemon made for each run of this case; None: the daemon
    #: of the command line, which is shared by all runs. It must not set data, listen and http.
    config: str | None = None


class Workbench(Protocol):
    """What `plan` may use: to say something, and to measure before anything is counted."""

    def say(self, text: str, /) -> None:
        """A line on standard error."""

    def measure(self, benchmark: Benchmark, case: Case, *, warm: bool = True) -> Result:
        """One run of a case, on a new daemon if it has a configuration, after a warm-up."""


def warm_records(settings: Any) -> Any:
    """The settings of a warm-up: as given, with at most `WARM_UP_RECORDS` records."""
    records = getattr(settings, "records", None)
    if records is None:
        return settings
    return attrs.evolve(settings, records=min(records, WARM_UP_RECORDS))


def one_case(settings: Any, _: Workbench) -> Sequence[Case]:
    """The plan of a benchmark that measures one thing."""
    return [Case("", settings)]


def no_conclusion(_: Mapping[str, Any]) -> Mapping[str, Any]:
    """For a benchmark whose figures say it all."""
    return {}


def no_faults(_: Any) -> str | None:
    """For settings that cannot contradict each other."""
    return None


def throughput_line(document: Mapping[str, Any]) -> str:
    """A document of records in one line; of other figures, its first ones."""
    found = document["median"]
    if "records_per_s" not in found:
        numbers = [(name, value) for name, value in found.items() if isinstance(value, float)]
        parts = [f"{name} {value:,.4g}" for name, value in numbers[:3]]
        return f"{document['workload']}: " + ", ".join(parts)
    parts = [f"{found['records_per_s']:,.0f} records/s", f"{found['mb_per_s']:,.1f} MB/s"]
    if "single_records_per_s" in found:
        parts.append(f"{found['single_records_per_s']:,.0f} records/s with an ack a record")
    if found["latency_ms"]:
        times = found["latency_ms"]
        parts.append(f"p50 {times['p50']:.3g} ms, p99 {times['p99']:.3g} ms")
    if found["disk_bytes_per_record"]:
        parts.append(f"{found['disk_bytes_per_record']:.1f} bytes on disk a record")
    return f"{document['workload']}: " + ", ".join(parts)


@attrs.frozen
class Benchmark:
    """A named benchmark: what an entry point of the group `streamer.benchmarks` names."""

    name: str
    #: One line for lists; the first of its own help.
    help: str
    #: An `attrs.frozen` class whose fields are made by `streamer.setting`, each with a default: the
    #: options of the command line. `linger_s` in unit "s" is `--linger TIME`, `value_bytes` in
    #: unit "bytes" is `--value-bytes SIZE`, a bool is `--name / --no-name`.
    settings: type
    #: An async context manager of (settings, target); see `Opener`.
    open: Opener
    #: Settings of the warm-up of those given; None: there is none.
    warm: Callable[[Any], Any] | None = warm_records
    #: Why settings cannot be used together, as one sentence; None where they can.
    fault: Callable[[Any], str | None] = no_faults
    #: What is measured: (settings, workbench) to cases. It may measure, to find a rate for example;
    #: its time is not counted.
    plan: Callable[[Any, Workbench], Sequence[Case]] = one_case
    #: Further keys of the document, of the document as it is. `conclusion`, a list of sentences, is
    #: printed at the end and stands first in the report.
    conclude: Callable[[Mapping[str, Any]], Mapping[str, Any]] = no_conclusion
    #: The document in one line.
    headline: Callable[[Mapping[str, Any]], str] = throughput_line
    #: Whether it needs a daemon. Without one `Target.url` is "" and there are no options for it.
    daemon: bool = True
    #: Whether every case of the plan has a configuration; then --url and --config are refused.
    own_configs: bool = False
    #: How many, where nothing else is asked for.
    repeats: int = 3

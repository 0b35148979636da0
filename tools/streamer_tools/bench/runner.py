"""Runs benchmarks: daemons for them, warm-up, repeats, and what each run cost.

Rules: a run is `open`, the call, and the way out, in a trio run of its own; daemons are started and
ended outside of it, by `own_daemon`, so Ctrl-C and SIGTERM end them. A daemon's first run is the
warm-up: it pays for loading code, on both sides. Cases take turns, repeat by repeat. Nothing here
prints: `say` gets a line for a person.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from streamer_tools import running
from streamer_tools.bench import process
from streamer_tools.bench.contract import Benchmark, Case, Measurement, Result, Target
from streamer_tools.bench.noise import Noise, watching
from streamer_tools.bench.quiet import Quiet

DEFAULT_TRANSPORT = "ws"


def say_nothing(_: str) -> None:
    """For those who want no lines."""


@attrs.frozen
class Bench:
    """Where and how benchmarks are run; also the `Workbench` of their plans."""

    #: ws, tcp or unix; None: ws, or what `url` says.
    transport: str | None = None
    #: The configuration file of a daemon of our own, for cases that bring none.
    config: str | None = None
    #: Where the data of our own daemons goes; None: the system's temporary directory.
    directory: Path | None = None
    #: A running daemon in place of one of our own.
    url: str | None = None
    say: Callable[[str], None] = say_nothing
    noise: Noise = attrs.Factory(Noise)
    #: What waits for a quiet machine; None: nothing does.
    quiet: Quiet | None = None

    def measure(self, benchmark: Benchmark, case: Case, *, warm: bool = True) -> Result:
        """One run of a case, after a warm-up; a daemon that is started for it is removed again.

        Raises:
            Told: the daemon did not start.
            StreamerError: the run failed.
        """
        return self.measure_repeats(benchmark, case, 1, warm=warm)[0]

    def measure_repeats(
        self, benchmark: Benchmark, case: Case, repeats: int, *, warm: bool = True
    ) -> list[Result]:
        """Runs of a case, one after the other, on one daemon. As `measure` otherwise."""
        with self._daemon(benchmark, case) as target:
            if warm:
                self._warm_up(benchmark, case, target)
            return [self._once(benchmark, case, target) for _ in range(repeats)]

    def measure_all(
        self, benchmark: Benchmark, cases: Sequence[Case], repeats: int
    ) -> Generator[tuple[Case, int, Result], None, None]:
        """Each repeat of all cases in turns: the case, the number of the repeat, what was found.

        Cases without a configuration share one daemon, which stays; each run of the others has
        one of its own. Close it, or take all of it: it ends the daemon.
        """
        with ExitStack() as stack:
            shared: Target | None = None
            for number in range(repeats):
                for case in cases:
                    if case.config is not None:
                        yield case, number, self.measure(benchmark, case)
                        continue
                    if shared is None:
                        shared = stack.enter_context(self._daemon(benchmark, case))
                        if benchmark.daemon:
                            self.say(f"{benchmark.name}: against {shared.url}")
                        self._warm_up(benchmark, case, shared)
                    yield case, number, self._once(benchmark, case, shared)

    def _warm_up(self, benchmark: Benchmark, case: Case, target: Target) -> None:
        if benchmark.warm is not None:
            _run(benchmark, benchmark.warm(case.settings), target)

    def _once(self, benchmark: Benchmark, case: Case, target: Target) -> Result:
        """One run on that daemon, with what it cost in memory; once more if others disturbed it."""
        pids = {"client": os.getpid(), "daemon": target.pid}
        while True:
            if self.quiet is not None:
                self.quiet.wait()
            for pid in pids.values():
                process.forget_peak(pid)
            with watching(target.pid) as seen:
                found = _run(benchmark, case.settings, target)
            if self.quiet is None or not self.quiet.again(seen):
                break
            self.noise.dropped += 1
        self.noise.add(seen, target.pid)
        if not isinstance(found, Measurement):
            return found
        return attrs.evolve(
            found,
            client_peak_rss_bytes=process.peak_rss_bytes(pids["client"]),
            daemon_peak_rss_bytes=process.peak_rss_bytes(pids["daemon"]),
        )

    @contextmanager
    def _daemon(self, benchmark: Benchmark, case: Case) -> Iterator[Target]:
        """The daemon that a case is measured on."""
        if not benchmark.daemon:
            yield Target("")
            return
        if self.url is not None:
            assert case.config is None, "refused when the command line was read"
            yield Target(self.url)
            return
        from streamer_tools.own_daemon import own_daemon

        with tempfile.TemporaryDirectory(prefix="streamer-bench-") as home:
            arguments = ["--config", self.config] if self.config else []
            if case.config is not None:
                file = Path(home) / "case.toml"
                file.write_text(case.config)
                arguments = ["--config", str(file)]
            with own_daemon(self.directory, arguments) as daemon:
                yield Target(daemon.url(self.transport or DEFAULT_TRANSPORT), daemon.pid)


def _run(benchmark: Benchmark, settings: object, target: Target) -> Result:

    async def main() -> Result:
        stream = f"bench-{benchmark.name}-{secrets.token_hex(4)}"
        async with benchmark.open(settings, attrs.evolve(target, stream=stream)) as run:
            return await run()

    return running.run(main)

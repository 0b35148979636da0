"""`streamer tune`: the options, and the search with its evidence as it comes.

Rules: what can be refused is refused before anything is measured: a configuration, a workload, a
file that cannot be written. Tables go to standard output as the rounds end, so Ctrl-C loses none;
progress goes to standard error. The configuration that is written has run as it stands.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from streamer_tools.exits import Exit, Told
from streamer_tools.options import duration, json_option, nbytes

if TYPE_CHECKING:
    from streamer.pipeline.registry import Registry
    from streamer_tools.bench.noise import Noise
    from streamer_tools.tune.evidence import Evidence, Round
    from streamer_tools.tune.proposal import Proposal
    from streamer_tools.tune.score import Weights
    from streamer_tools.tune.space import Space, Value
    from streamer_tools.tune.trial import Trials
    from streamer_tools.tune.workload import Workload

_TRANSPORTS = ("ws", "unix", "tcp")


def _weights(_: click.Context, __: click.Parameter, text: str) -> Weights:
    from streamer_tools.tune.score import parse_weights

    try:
        return parse_weights(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@attrs.frozen
class Options:
    """The command line, less the workload's own options."""

    weights: Weights
    budget_s: float
    config: str | None
    write: str | None
    directory: str | None
    transport: str
    seed: int
    as_json: bool


@click.command("tune")
@click.argument("workload_file", metavar="[WORKLOAD]", required=False)
@click.option("--batch", "mode", flag_value="batch", help="Many records at once.")
@click.option(
    "--single",
    "mode",
    flag_value="single",
    help="Each record by itself, its ack awaited [default].",
)
@click.option("--value-bytes", type=nbytes, metavar="SIZE", help="Of a value [default: 100].")
@click.option("--sample", metavar="FILE", help="Real values, a line each.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Records a second in all; 0: as many as are acked [default].",
)
@click.option("--producers", type=int, metavar="N", help="Connections that send [default: 8].")
@click.option(
    "--tasks", type=int, metavar="N", help="Records under way in each, with --single [default: 1]."
)
@click.option(
    "--readers", type=int, metavar="N", help="Connections that read meanwhile [default: 0]."
)
@click.option(
    "--weights",
    callback=_weights,
    show_default=True,
    metavar="W",
    default="latency=0.4,throughput=0.4,errors=0.2",
    help="What counts how much; what is not named is 0.",
)
@click.option(
    "--budget",
    "budget_s",
    type=duration,
    default="5m",
    show_default=True,
    metavar="TIME",
    help="What all of it may take.",
)
@click.option("--config", metavar="FILE", help="The present configuration.")
@click.option("--write", metavar="FILE", help="Write the configuration that is proposed there.")
@click.option(
    "--data",
    "directory",
    metavar="DIR",
    help="Where daemons keep their data meanwhile, removed again; on the disk that is"
    " to be used [default: the system's temporary directory].",
)
@click.option("--transport", type=click.Choice(_TRANSPORTS), default="ws", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of candidates and turns.")
@json_option
def command(workload_file: str | None, **given: Any) -> int | None:
    """Find better settings for a workload, by measuring on this machine.

    WORKLOAD is a TOML file (mode, value_bytes, sample, rate, producers, tasks, readers, stream,
    and [client] with the present batch_records, batch_bytes, linger_s, in_flight); options take
    the place of its keys. Many candidates run for a short time, the better half for longer, until
    one is left; it is proposed if it beats the present configuration beyond the noise. What is
    durable is never traded: fsync and ack levels stay. A WORKLOAD is sent to daemons of its own;
    a running daemon is not touched.
    """
    own = ("mode", "value_bytes", "sample", "rate", "producers", "tasks", "readers")
    from streamer_tools.tune.workload import load

    workload = load(workload_file, {name: given.pop(name) for name in own})
    return _Tuning(workload, Options(**given)).run()


class _Tuning:
    """One call of the command."""

    def __init__(self, workload: Workload, options: Options) -> None:
        from streamer.config_load import load_config
        from streamer.pipeline.registry import Registry
        from streamer_tools.tune.workload import make_pool

        self._began = time.monotonic()
        self._workload = workload
        self._options = options
        self._registry = Registry.installed()
        self._config = load_config(options.config, self._registry)
        self._text = Path(options.config).read_text("utf-8") if options.config is not None else ""
        self._introduced = False
        _check_writable(options.write)
        self._directory = _directory(options.directory)
        self._pool, warning = make_pool(workload, self._config.batch.value_bytes)
        if warning:
            self._say(f"note: {warning}")
        if self._config.pipeline_of(workload.stream) is None:
            raise Told(
                Exit.FAILED,
                f"no pipeline serves the stream {workload.stream!r}: name one that is served with "
                "`stream` in the workload",
            )

    def run(self) -> int | None:
        """Measure, search, tell, write; the exit status."""
        from streamer_tools.bench.runner import Bench
        from streamer_tools.tune import machine, report
        from streamer_tools.tune.proposal import conclude
        from streamer_tools.tune.search import INTERRUPTED, OUT_OF_TIME, StopSearch
        from streamer_tools.tune.trial import Trials, check_room

        try:
            check_room(self._directory)
        except StopSearch as error:
            raise Told(Exit.TEMPORARY, str(error)) from error
        self._print(f"workload: {self._workload.described()}")
        self._say("measuring the machine")
        facts = machine.measure(self._directory or Path(tempfile.gettempdir()), self._pool)
        self._print(*machine.lines(facts))
        space = self._make_space()
        self._print(*report.space_lines(space))
        self._print(*report.explain_score(self._options.weights))
        bench = Bench(transport=self._options.transport, directory=self._directory)
        trials = Trials(space, self._workload, self._pool, self._text, bench)
        evidence = self._search(space, trials)
        proposal = conclude(evidence)
        after = self._tell(evidence, proposal, facts, bench.noise)
        self._write(evidence, proposal, after, trials)
        if evidence.cut_short == INTERRUPTED:
            return Exit.INTERRUPTED
        if evidence.cut_short not in ("", OUT_OF_TIME):
            raise Told(Exit.TEMPORARY, evidence.cut_short)
        return None

    def _make_space(self) -> Space:
        from streamer_tools.tune.space import make_space

        config, registry, text = self._config, self._registry, self._text

        def valid(changes: tuple[tuple[str, Value], ...]) -> bool:
            return _is_valid(space, changes, text, registry)

        space = make_space(config, self._workload, valid)
        return space

    def _search(self, space: Space, trials: Trials) -> Evidence:
        from streamer_tools.tune.plan import BudgetTooShort
        from streamer_tools.tune.search import PresentFails, Search

        options = self._options
        search = Search(
            space,
            trials,
            options.weights,
            seed=options.seed,
            now=time.monotonic,
            deadline=self._began + options.budget_s,
            tell=lambda found: self._tell_round(space, found),
            say=self._say,
        )
        try:
            return search.run()
        except PresentFails as error:
            raise Told(
                Exit.FAILED,
                f"the present configuration does not run this workload: {error}",
            ) from error
        except BudgetTooShort as error:
            spent_s = time.monotonic() - self._began
            raise click.UsageError(
                f"--budget {options.budget_s:g}s is too short for one round: a run takes "
                f"{error.overhead_s:.1f} s besides its length here, and {spent_s:.0f} s went into "
                f"measuring the machine; allowed are {spent_s + error.needed_s * 1.1 + 1:.0f}s "
                "and more"
            ) from error

    # ------------------------------------------------------------------------------- telling

    def _tell(
        self, evidence: Evidence, proposal: Proposal, facts: dict[str, Any], noise: Noise
    ) -> str:
        """Print what was found; the configuration that is proposed, as text."""
        from streamer_tools.tune import config_file, report

        options, space = self._options, evidence.space
        after, client = self._text, []
        if proposal.candidate is not None:
            after = config_file.changed(self._text, space.config_changes(proposal.candidate))
            client = list(report.client_lines(self._workload, proposal.candidate))
        name = options.config or "(embedded default)"
        found = config_file.diff(self._text, after, name, options.write or name)
        about_noise = report.noise(noise, proposal)
        if options.as_json:
            document = report.document(
                evidence, proposal, workload=attrs.asdict(self._workload), machine=facts,
                noise=about_noise, diff=found, client="\n".join(client),
            )  # fmt: skip
            click.echo(json.dumps(document))
            return after
        self._print(*report.finding_lines(evidence), *report.proposal_lines(evidence, proposal))
        self._print(*(f"  {each}" for each in about_noise["sentences"]))
        self._print(*(["", found] if found else []), *(["", *client] if client else []))
        return after

    def _write(self, evidence: Evidence, proposal: Proposal, after: str, trials: Trials) -> None:
        from streamer_tools.tune import config_file
        from streamer_tools.tune.evidence import NotMeasured
        from streamer_tools.tune.search import OUT_OF_TIME

        file = self._options.write
        if file is None:
            return
        if proposal.candidate is None or evidence.cut_short not in ("", OUT_OF_TIME):
            why = evidence.cut_short or "nothing is proposed"
            self._say(f"{file} was not written: {why}")
        elif after == self._text:
            self._say(f"{file} was not written: what is proposed is the program's alone")
        else:
            if not trials.ran[after]:
                raise NotMeasured("no daemon ran with the configuration that is proposed")
            config_file.checked(after, self._registry, file)
            config_file.write(file, after)
            self._say(f"{file} was written; `streamer check --config {file}` has no faults")

    def _tell_round(self, space: Space, found: Round) -> None:
        from streamer_tools.tune import report

        introduce = found.kind == "halving" and not self._introduced
        self._introduced = self._introduced or introduce
        self._print(*report.round_lines(space, found, introduce))

    def _print(self, *lines: str) -> None:
        if not self._options.as_json:
            for line in lines:
                click.echo(line)

    def _say(self, text: str) -> None:
        click.echo(f"streamer: {text}", err=True)


def _is_valid(
    space: Space, changes: tuple[tuple[str, Value], ...], text: str, registry: Registry
) -> bool:
    """Whether the daemon would take such a configuration, and each value would act in it."""
    from streamer.errors import ConfigError
    from streamer_tools.tune.config_file import changed, checked
    from streamer_tools.tune.space import Candidate

    given = dict(changes)

    def value(name: str) -> Value | None:
        present = [knob.present for knob in space.knobs if knob.name == name]
        return given.get(name, *present) if present else None

    least, most = value("ingest.records_min"), value("ingest.records_max")
    if least is not None and most is not None and least > most:
        return False
    try:
        checked(changed(text, space.config_changes(Candidate("", changes))), registry, None)
    except ConfigError:
        return False
    return True


def _check_writable(file: str | None) -> None:
    """Raises Told: `--write` would fail after minutes of measuring."""
    if file is None:
        return
    target = Path(file).resolve()
    if target.is_dir():
        raise Told(Exit.IO, f"{file}: found a directory, allowed a file")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise Told(Exit.IO, f"{file}: found no directory {target.parent} that can be written")


def _directory(name: str | None) -> Path | None:
    if name is None:
        return None
    if not os.path.isdir(name) or not os.access(name, os.W_OK):
        raise Told(Exit.IO, f"--data {name}: found no directory that can be written")
    return Path(name)

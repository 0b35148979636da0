"""Service levels: whether the daemon keeps what `[sla]` promises, and how fast it uses up what it
may miss.

Rules:

- The caller gives a `Sample` a second; here it is judged, counted and summed, and nothing else.
  Memory is bounded by the window: two numbers a minute of it, and two for each ten seconds of the
  last hour (23 KB an objective and day).
- Each objective counts what is right for it. *Good* is a share of what counted:

  ============  =======  ==================================================================
  latency_p99   seconds  in which something was asked; an idle one is neither good nor bad
  throughput    seconds  in which something was asked: a daemon cannot carry what nobody
                         sends, so a silent source is no fault of it (for that, watch
                         `records_in`). Below the floor it does not know a slow sender from
                         being slow itself: it is for senders that always have more.
  error_rate    answers  by events, as each is somebody's: by seconds, one error in a quiet
                         second would weigh as much as a thousand in a busy one. What the
                         asker did wrong (`ASKERS_CODES`) is no error of the daemon.
  availability  seconds  of the clock: who cannot reach a daemon asks it nothing, so events
                         would leave out just the time that it was down
  lag_age       seconds  in which there are groups
  ============  =======  ==================================================================

- What must be good is `objective` for limits that make a second good or bad. Error rate and
  availability are shares by themselves, so their limit is what must be good, or may be bad.
- The budget is the share that may be bad. Burn is how many times faster than allowed it is being
  used: at 1.0 it is gone with the window. An alert takes the long burn for its weight and the short
  one to end soon (Site Reliability Workbook, chapter 5).
- Seconds without a tick (a stalled loop, a clock that jumped) are unavailable: nobody was served.
  For the others they do not count: what was asked meanwhile shows in the ticks after them. A tick
  up to half a second late is on time, and a clock that goes back is one second on.
- All is in memory. A restart forgets it, the time in which there was no daemon included: `since_s`
  says how much is known. Over restarts, Prometheus knows more.
- A changed limit makes past seconds mean something else, so its objective begins anew; one whose
  limit is a share, and all that did not change, keep their history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from streamer.observe.ring import Ring

if TYPE_CHECKING:
    from streamer.config_sla import SlaConfig
    from streamer.stats import Stats

_FINE_S = 10
_COARSE_S = 60
#: Codes of errors that whoever asked could have avoided; of others, unknown ones too, it is us.
ASKERS_CODES = frozenset(
    {
        "bad_batch", "bad_request", "config", "credit_exceeded", "fenced", "frame_too_large",
        "group_conflict", "lease_lost", "not_allowed", "offset_conflict", "offset_out_of_range",
        "out_of_sequence", "producer_unknown", "protocol", "too_large", "too_slow",
        "unknown_batch_version", "unknown_dictionary", "unknown_group", "unknown_partition",
        "unknown_schedule", "unknown_stream", "unsupported_version",
    }
)  # fmt: skip
#: Burn is told over these; the step that runs is part of both.
WINDOWS_S = {"5m": 300, "1h": 3600}


@attrs.frozen
class Sample:
    """One second of the daemon."""

    #: Of the appends answered in it (`recent.Recent` tells it: a window of minutes would make one
    #: slow answer many bad seconds); where one still waits for longer, how long that is. None if
    #: there is nothing to tell.
    append_p99_s: float | None
    #: Acked in it.
    records_per_s: float
    #: Of `answers`, those that were errors, less those of `ASKERS_CODES`.
    errors: int
    #: Given in it.
    answers: int
    #: Whether health was ok.
    healthy: bool
    #: Of the group that is furthest behind; 0 where all is done, None where there is no group.
    lag_age_s: float | None
    #: Whether anything was asked in it, or still waits for its answer.
    pending: bool


@attrs.frozen
class _Judgement:
    """What one second says: how much counts, how much of that is bad, and the value itself."""

    counted: int
    bad: int
    now: float | None


_IDLE = _Judgement(0, 0, None)


def _latency(sample: Sample, limit: float) -> _Judgement:
    if not sample.pending or sample.append_p99_s is None:
        return _IDLE
    return _Judgement(1, sample.append_p99_s > limit, sample.append_p99_s)


def _throughput(sample: Sample, limit: float) -> _Judgement:
    if not sample.pending:
        return _IDLE
    return _Judgement(1, sample.records_per_s < limit, sample.records_per_s)


def _error_rate(sample: Sample, _: float) -> _Judgement:
    if not sample.answers:
        return _IDLE
    errors = min(sample.errors, sample.answers)
    return _Judgement(sample.answers, errors, errors / sample.answers)


def _availability(sample: Sample, _: float) -> _Judgement:
    return _Judgement(1, not sample.healthy, float(sample.healthy))


def _lag_age(sample: Sample, limit: float) -> _Judgement:
    if sample.lag_age_s is None:
        return _IDLE
    return _Judgement(1, sample.lag_age_s > limit, sample.lag_age_s)


@attrs.frozen
class _Kind:
    name: str
    #: Of `SlaConfig`.
    key: str
    unit: str
    judge: Callable[[Sample, float], _Judgement]
    #: What must be good, given the limit and `objective`.
    share: Callable[[float, float], float]
    #: Whether a value of now keeps the limit.
    keeps: Callable[[float, float], bool]
    #: Whether the limit alone says what must be good, and nothing about a second.
    limit_is_share: bool = False


def _at_most(now: float, limit: float) -> bool:
    return now <= limit


def _at_least(now: float, limit: float) -> bool:
    return now >= limit


def _objective(_: float, objective: float) -> float:
    return objective


_KINDS = (
    _Kind("latency_p99", "latency_p99_s", "s", _latency, _objective, _at_most),
    _Kind("throughput", "throughput_min", "records/s", _throughput, _objective, _at_least),
    _Kind(
        "error_rate",
        "error_rate_max",
        "share",
        _error_rate,
        lambda limit, _: 1 - limit,
        _at_most,
        limit_is_share=True,
    ),
    _Kind(
        "availability",
        "availability_min",
        "share",
        _availability,
        lambda limit, _: limit,
        _at_least,
        limit_is_share=True,
    ),
    _Kind("lag_age", "lag_age_max_s", "s", _lag_age, _objective, _at_most),
)
#: Of the objectives that there can be.
NAMES = tuple(kind.name for kind in _KINDS)


class _Objective:
    """One promise: its limit, and what became of it."""

    def __init__(self, kind: _Kind, config: SlaConfig, second: int) -> None:
        self.kind = kind
        self.began = second
        self.now: float | None = None
        self._fine = Ring(_FINE_S, max(WINDOWS_S.values()) // _FINE_S + 1)
        self._whole = Ring(_COARSE_S, _minutes(config))
        self.apply(config)
        self._turn(second)

    def apply(self, config: SlaConfig) -> None:
        """Go on with another limit, share or window."""
        self.limit: float = getattr(config, self.kind.key)
        self.share = self.kind.share(self.limit, config.objective)
        self._window_s = config.window_s
        self._whole = self._whole.resized(_minutes(config))

    def tick(self, second: int, sample: Sample) -> None:
        found = self.kind.judge(sample, self.limit)
        self.now = found.now
        self._count(second, found.counted, found.bad)

    def missed(self, first: int, end: int) -> None:
        """Seconds of which nothing is known."""
        if self.kind.judge is not _availability:
            self._turn(end)
            return
        # What is before the window leaves it at once.
        first = max(first, end - int(self._window_s) - _COARSE_S)
        while first < end:
            # By the step, not by the second: a clock may jump by a month.
            step_end = min(end, first - first % _FINE_S + _FINE_S)
            self._count(first, step_end - first, step_end - first)
            first = step_end

    def _count(self, second: int, counted: int, bad: int) -> None:
        self._fine.add(second, counted, bad)
        self._whole.add(second, counted, bad)

    def _turn(self, second: int) -> None:
        self._fine.turn(second)
        self._whole.turn(second)

    @property
    def ok(self) -> bool:
        """Whether the last second kept the limit; nothing is wrong with an idle one."""
        return self.now is None or self.kind.keeps(self.now, self.limit)

    @property
    def compliance(self) -> float:
        """The share that was good, over the window; 1 if nothing counted."""
        whole = self._whole
        return 1 - whole.bad / whole.counted if whole.counted else 1.0

    @property
    def budget_left(self) -> float:
        """Of what may be bad, the share that is left; below 0 it is overdrawn."""
        return 1 - self._burn(self._whole.counted, self._whole.bad)

    @property
    def met(self) -> bool:
        # Shares as 0.99 are not exact in binary: exactly used up is met.
        return self.budget_left > -1e-9

    def burn(self, window: str) -> float:
        """How fast the budget is used, over a window of `WINDOWS_S`; 0 if nothing counted."""
        return self._burn(*self._fine.last(WINDOWS_S[window]))

    def _burn(self, counted: int, bad: int) -> float:
        # A share that all may be bad has nothing to use up.
        allowed = counted * (1 - self.share)
        return bad / allowed if allowed else 0.0

    def doc(self, second: int) -> dict[str, Any]:
        return {
            "name": self.kind.name,
            "limit": self.limit,
            "unit": self.kind.unit,
            "now": self.now,
            "ok": self.ok,
            "objective": round(self.share, 9),
            "compliance": round(self.compliance, 9),
            "counted": self._whole.counted,
            "bad": self._whole.bad,
            "window_s": self._window_s,
            "since_s": second - self.began,
            **{f"burn_{window}": round(self.burn(window), 6) for window in WINDOWS_S},
            "budget_left": round(self.budget_left, 6),
            "met": self.met,
        }


def _minutes(config: SlaConfig) -> int:
    """Of the window, with the one that runs."""
    return -(-int(config.window_s) // _COARSE_S) + 1


class Sla:
    """All objectives of a daemon. `clock` gives seconds, monotonic ones at best."""

    def __init__(self, config: SlaConfig, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: float | None = None
        #: Since the first tick, those missed included.
        self._second = 0
        self._objectives: dict[str, _Objective] = {}
        self._config = config
        self.apply(config)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the objectives that are configured."""
        return tuple(self._objectives)

    def apply(self, config: SlaConfig) -> None:
        """Go on with another configuration; see the module for what is kept."""
        before, self._objectives = self._objectives, {}
        for kind in _KINDS:
            limit = getattr(config, kind.key)
            if not limit:
                continue
            known = before.get(kind.name)
            if known is None or (known.limit != limit and not kind.limit_is_share):
                known = _Objective(kind, config, self._second)
            elif config != self._config:
                known.apply(config)
            self._objectives[kind.name] = known
        self._config = config

    def tick(self, sample: Sample) -> None:
        """Take in the second that has just ended; to be called once a second."""
        self._last = self._catch_up()
        self._second += 1
        for objective in self._objectives.values():
            objective.tick(self._second - 1, sample)

    def _catch_up(self) -> float:
        """Count the seconds without a tick, up to now; gives the time. Who looks while the ticks
        hang sees it, and the tick after that counts the rest."""
        now = self._clock()
        missed = 0 if self._last is None else max(0, round(now - self._last) - 1)
        if self._last is not None and missed:
            self._last += missed
            first, self._second = self._second, self._second + missed
            for objective in self._objectives.values():
                objective.missed(first, self._second)
        return now

    def figure(self, name: str, read: Callable[[_Objective], float]) -> float:
        """A number of an objective; NaN for one that is not configured any more."""
        self._catch_up()
        objective = self._objectives.get(name)
        return float("nan") if objective is None else read(objective)

    def doc(self) -> dict[str, Any] | None:
        """The SlaDoc: each objective as it is now; None where there is none."""
        if not self._objectives:
            return None
        self._catch_up()
        objectives = [each.doc(self._second) for each in self._objectives.values()]
        return {
            "met": all(each["met"] for each in objectives),
            "since_s": self._second,
            "objectives": objectives,
        }


def sla_metrics(stats: Stats, sla: Sla) -> None:
    """Show the objectives as gauges. To be called again after `Sla.apply`: those that are not
    configured any more go away."""
    for name in set(NAMES) - set(sla.names):
        stats.remove(objective=name)
    for name in sla.names:
        for metric, help, read in _GAUGES:
            stats.gauge(metric, help, _reader(sla, name, read), objective=name)
        for window in WINDOWS_S:
            stats.gauge(
                "sla_burn_rate",
                "how many times faster than allowed the budget is used",
                _reader(sla, name, _burn_over(window)),
                objective=name,
                window=window,
            )


def _budget_left(objective: _Objective) -> float:
    return round(objective.budget_left, 6)


_GAUGES: tuple[tuple[str, str, Callable[[_Objective], float]], ...] = (
    (
        "sla_compliance",
        "share that was good over the window",
        lambda each: round(each.compliance, 9),
    ),
    ("sla_objective", "share that must be good", lambda each: each.share),
    ("sla_budget_left", "share that is left of what may be bad", _budget_left),
    ("sla_met", "whether the objective is met over the window", lambda each: each.met),
)


def _burn_over(window: str) -> Callable[[_Objective], float]:
    return lambda objective: round(objective.burn(window), 6)


def _reader(sla: Sla, name: str, read: Callable[[_Objective], float]) -> Callable[[], float]:
    return lambda: sla.figure(name, read)

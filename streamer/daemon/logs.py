"""Structured logs: one event, one line; for people on a terminal, JSON otherwise.

Rules:

- Whoever logs writes `structlog.get_logger("streamer.<room>")` and an event with values. Only the
  daemon's `main` opens `Logs`; a library that configured logging would decide for its user.
- Python's own logging runs through the same formatter, so that a library's line looks like ours.
- What a peer sent cannot forge a line or colour a terminal: control characters are escaped, long
  values cut, secrets replaced. A traceback is the one thing that takes more lines, for people only.
- An event that repeats is held back, and counted, not lost: the next one that passes says how many
  it stands for.
- Logging never fails the daemon: a broken standard error loses lines, and counts them.
"""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Self, TextIO

import attrs
import structlog

from streamer.config import LogConfig

Event = MutableMapping[str, Any]
#: Hides what must not be logged; gets and returns the event's values.
Redact = Callable[[Event], Event]

#: Libraries that say on `info` what only their authors want to know.
_QUIET = ("hypercorn", "trio-websocket", "asyncio", "concurrent")
_VALUE_CHARS_MAX = 2_000
_ITEMS_MAX = 100
_DEPTH_MAX = 3
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SECRET_KEY = re.compile(r"token|secret|password|passwd|authorization|cookie|credential", re.I)
_SECRET_URL = re.compile(r"(\w+://)[^/@\s]+@")
HIDDEN = "(hidden)"


class Logs:
    """The process's logging, from `open()` to `close()`; also a context manager."""

    def __init__(
        self,
        config: LogConfig,
        stream: TextIO | None = None,
        *,
        redact: Redact | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` (monotonic) is for the rate limit, `now` (wall) for what people read."""
        self._stream = sys.stderr if stream is None else stream
        self._handler = _Handler(self._stream)
        self._redact = redact or hide_secrets
        self._now = now
        self.limit = RateLimit(clock)
        self._config = config

    @property
    def lost(self) -> int:
        """Lines that standard error did not take."""
        return self._handler.lost

    def open(self) -> Self:
        self._handler.addFilter(self.limit.filter)
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        logging.captureWarnings(True)
        self.apply(self._config)
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                self.limit,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=False,
        )
        return self

    def apply(self, config: LogConfig) -> None:
        """Take over level and format, at the start and at a reload."""
        self._config = config
        level = logging.getLevelNamesMapping()[config.level.upper()]
        logging.getLogger().setLevel(level)
        for name in _QUIET:
            noisy = level if config.level == "debug" else max(level, logging.WARNING)
            logging.getLogger(name).setLevel(noisy)
        terminal = self._stream.isatty()
        human = config.format == "human" or (config.format == "auto" and terminal)
        colours = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[
                    structlog.stdlib.add_logger_name,
                    structlog.stdlib.add_log_level,
                ],
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    self._hide,
                    *(self._human(colours) if human else self._json()),
                ],
            )
        )

    def close(self) -> None:
        """Put everything back as it was before `open`."""
        structlog.reset_defaults()
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.handlers[:] = self._before[0]
        root.setLevel(self._before[1])
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.NOTSET)
        self._handler.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _hide(self, _logger: Any, _method: str, event: Event) -> Event:
        return self._redact(event)

    def _human(self, colours: bool) -> Iterable[structlog.typing.Processor]:
        return (
            self._timestamp("%H:%M:%S.%f"),
            one_line,
            structlog.dev.ConsoleRenderer(
                colors=colours,
                pad_event_to=0,
                sort_keys=False,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        )

    def _json(self) -> Iterable[structlog.typing.Processor]:
        return (
            self._timestamp("%Y-%m-%dT%H:%M:%S.%fZ"),
            structlog.processors.format_exc_info,
            one_line,
            _to_json,
        )

    def _timestamp(self, form: str) -> structlog.typing.Processor:
        def add(_logger: Any, _method: str, event: Event) -> Event:
            moment = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
            text = moment.strftime(form)
            event["timestamp"] = text if form.endswith("Z") else text[:-3]
            return event

        return add


class _Handler(logging.StreamHandler[TextIO]):
    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Count what could not be written: the default prints to the stream that is broken."""
        self.lost += 1


# ------------------------------------------------------------------------------- what is written


def one_line(_logger: Any, _method: str, event: Event) -> Event:
    """Escape control characters and cut long values; tracebacks are for JSON to escape."""
    for key, value in event.items():
        if key not in ("exc_info", "exception", "stack_info"):
            event[key] = _shown(value, _DEPTH_MAX)
    return event


def _shown(value: object, depth: int) -> object:
    if isinstance(value, (int, float, type(None))):
        return value
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _plain(ascii(bytes(value[:_VALUE_CHARS_MAX])))
    if isinstance(value, BaseException):
        return _plain(f"{type(value).__name__}: {value}")
    if isinstance(value, (list, tuple)) and depth:
        return [_shown(item, depth - 1) for item in value[:_ITEMS_MAX]]
    if isinstance(value, dict) and depth:
        items = itertools.islice(value.items(), _ITEMS_MAX)
        return {_plain(str(key)): _shown(item, depth - 1) for key, item in items}
    return _plain(str(value))


def _plain(text: str) -> str:
    if len(text) > _VALUE_CHARS_MAX:
        text = f"{text[:_VALUE_CHARS_MAX]}... ({len(text)} characters)"
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _to_json(_logger: Any, _method: str, event: Event) -> str:
    first = {"time": event.pop("timestamp"), "level": event.pop("level", "info")}
    first |= {"logger": event.pop("logger", ""), "event": event.pop("event", "")}
    return json.dumps(first | dict(event), default=str)


def hide_secrets(event: Event) -> Event:
    """Replace values whose key says that they are secret, and the user part of URLs."""
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = HIDDEN
        elif isinstance(value, str) and "@" in value:
            event[key] = _SECRET_URL.sub(rf"\1{HIDDEN}@", value)
    return event


# ------------------------------------------------------------------------------------ rate limit


@attrs.define
class _Window:
    until: float
    passed: int = 0
    held: int = 0


class RateLimit:
    """Lets `burst` of each kind of event pass in `window_s`, holds the rest back and counts it.

    The kind is logger, level and event, not the values: a thousand clients that fail the same way
    are one kind. Works as a structlog processor, and as a filter for Python's own logging.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        burst: int = 20,
        window_s: float = 10.0,
        kinds_max: int = 1000,
    ) -> None:
        self.held = 0
        self._clock = clock
        self._burst = burst
        self._window_s = window_s
        self._kinds_max = kinds_max
        self._windows: OrderedDict[tuple[str, str, str], _Window] = OrderedDict()

    def admit(self, logger: str, level: str, event: str) -> int | None:
        """None to hold it back, else how many were held back before it."""
        now, kind = self._clock(), (logger, level, event)
        window = self._windows.get(kind)
        held = 0
        if window is None or now >= window.until:
            held = 0 if window is None else window.held
            window = self._windows[kind] = _Window(now + self._window_s)
            if len(self._windows) > self._kinds_max:
                self._windows.popitem(last=False)
        self._windows.move_to_end(kind)
        if window.passed >= self._burst:
            window.held += 1
            self.held += 1
            return None
        window.passed += 1
        return held

    def __call__(self, logger: Any, method: str, event: Event) -> Event:
        held = self.admit(getattr(logger, "name", ""), method, str(event.get("event")))
        if held is None:
            raise structlog.DropEvent
        if held:
            event["held_back"] = held
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """For records of libraries; ours have passed the processor before."""
        if hasattr(record, "_logger"):
            return True
        return self.admit(record.name, record.levelname, str(record.msg)) is not None

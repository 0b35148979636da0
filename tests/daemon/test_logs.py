"""Logs: one line an event in either form, no forged lines, no secrets, no floods."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from streamer.config import LogConfig
from streamer.daemon.logs import HIDDEN, Logs, RateLimit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError("nobody reads")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logs(out: io.StringIO, clock: Clock) -> Iterator[Logs]:
    with Logs(LogConfig(), out, clock=clock, now=lambda: 1_700_000_000.25) as logs:
        yield logs


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


log = structlog.get_logger("streamer.test")


@pytest.mark.usefixtures("logs")
def test_json_is_one_object_a_line(out: io.StringIO) -> None:
    log.info("session opened", peer="127.0.0.1", sessions=3, ratio=0.5, ok=True, none=None)
    log.warning("twice", bytes=b"\x00a")
    assert lines(out) == [
        {
            "time": "2023-11-14T22:13:20.250000Z",
            "level": "info",
            "logger": "streamer.test",
            "event": "session opened",
            "peer": "127.0.0.1",
            "sessions": 3,
            "ratio": 0.5,
            "ok": True,
            "none": None,
        },
        {
            "time": "2023-11-14T22:13:20.250000Z",
            "level": "warning",
            "logger": "streamer.test",
            "event": "twice",
            "bytes": r"b'\x00a'",
        },
    ]


@pytest.mark.usefixtures("logs")
def test_libraries_come_out_the_same_way(out: io.StringIO) -> None:
    logging.getLogger("some.library").warning("took %d s", 5)
    logging.getLogger("hypercorn.error").info("Running on ...")
    logging.getLogger("hypercorn.error").error("oh")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    events = [(line["logger"], line["level"], line["event"]) for line in lines(out)]
    assert events[:2] == [
        ("some.library", "warning", "took 5 s"),
        ("hypercorn.error", "error", "oh"),
    ]
    assert events[2][0] == "py.warnings"
    assert "old" in events[2][2]
    assert len(out.getvalue().splitlines()) == 3


@pytest.mark.usefixtures("logs")
def test_bound_values_and_positional_arguments(out: io.StringIO) -> None:
    log.bind(pipeline="default").info("took %s", "long", stage="persist")
    [line] = lines(out)
    assert (line["event"], line["pipeline"], line["stage"]) == ("took long", "default", "persist")


@pytest.mark.usefixtures("logs")
def test_an_exception_is_still_one_line_of_json(out: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        log.exception("failed", error=error)
    [line] = lines(out)
    assert line["error"] == "ValueError: two\\nlines"
    assert line["exception"].startswith("Traceback (most recent call last)")


def test_for_people_without_colours_when_it_is_no_terminal(out: io.StringIO) -> None:
    with Logs(LogConfig(format="human"), out, now=lambda: 1_700_000_000.25):
        log.info("session opened", peer="127.0.0.1", name="a b")
        logging.getLogger("lib").warning("hm")
    assert out.getvalue() == (
        "22:13:20.250 [info     ] session opened [streamer.test] peer=127.0.0.1 name='a b'\n"
        "22:13:20.250 [warning  ] hm [lib]\n"
    )


def test_for_people_with_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Logs(LogConfig(), out):
        log.info("hello")
    assert "\x1b[" in out.getvalue()
    assert "hello" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with Logs(LogConfig(), out):
        log.info("hello")
    assert "\x1b[" not in out.getvalue()


def test_json_can_be_asked_for_on_a_terminal() -> None:
    out = Terminal()
    with Logs(LogConfig(format="json"), out):
        log.info("hello")
    assert lines(out)[0]["event"] == "hello"


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_peer_cannot_forge_a_line_or_paint_the_terminal(out: io.StringIO, form: Any) -> None:
    with Logs(LogConfig(format=form), out):
        log.info("hi", peer="x\n12:00 [info] all is well \x1b[31m\u2028\x9b")
        log.info("bad\nevent", value=["a\nb"], data=b"\n" * 5)
    assert len(out.getvalue().splitlines()) == 2
    assert not {"\x1b", "\u2028", "\x9b"} & set(out.getvalue())


@pytest.mark.usefixtures("logs")
def test_long_values_are_cut(out: io.StringIO) -> None:
    log.info("long", text="x" * 1_000_000, data=b"x" * 1_000_000)
    assert len(out.getvalue()) < 10_000
    assert "(1000000 characters)" in lines(out)[0]["text"]


@pytest.mark.usefixtures("logs")
def test_lists_and_tables_stay_what_they_are_and_stay_small(out: io.StringIO) -> None:
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    log.info("x", listen=("a\nb", 1), table={"k": None, "l": [b"x"]}, many=[0] * 1000, deep=deep)
    [line] = lines(out)
    assert line["listen"] == ["a\\nb", 1]
    assert line["table"] == {"k": None, "l": ["b'x'"]}
    assert len(line["many"]) == 100
    assert line["deep"][0][0][0].startswith("[[")


@pytest.mark.usefixtures("logs")
def test_secrets_are_hidden(out: io.StringIO) -> None:
    log.info("x", api_token="s3cret", Authorization="Bearer s3cret", url="ws://a:s3cret@h:1/")
    logging.getLogger("lib").warning("plain")
    assert "s3cret" not in out.getvalue()
    assert lines(out)[0]["api_token"] == HIDDEN
    assert lines(out)[0]["url"] == f"ws://{HIDDEN}@h:1/"


def test_a_redaction_of_ones_own(out: io.StringIO) -> None:
    def redact(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: value for key, value in event.items() if key != "value"}

    with Logs(LogConfig(format="json"), out, redact=redact):
        log.info("x", value=b"record", offset=1)
    assert "value" not in lines(out)[0]
    assert lines(out)[0]["offset"] == 1


# ------------------------------------------------------------------------------------- levels


def test_level_and_form_change_at_a_reload(logs: Logs, out: io.StringIO) -> None:
    log.debug("no")
    logs.apply(LogConfig(level="debug"))
    log.debug("yes")
    logging.getLogger("hypercorn.error").debug("also")
    logs.apply(LogConfig(level="error", format="human"))
    log.warning("no")
    log.error("last")
    first, second, third = out.getvalue().splitlines()
    assert (json.loads(first)["event"], json.loads(second)["event"]) == ("yes", "also")
    assert third.endswith("[error    ] last [streamer.test]")


def test_closing_puts_everything_back(out: io.StringIO) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with Logs(LogConfig(level="debug"), out):
        assert root.handlers != handlers
    assert (root.handlers, root.level) == (handlers, level)
    assert logging.getLogger("hypercorn").level == logging.NOTSET
    assert not structlog.is_configured()


def test_a_broken_standard_error_loses_lines_and_nothing_else() -> None:
    with Logs(LogConfig(), Broken()) as logs:
        log.info("one")
        logging.getLogger("lib").warning("two")
        assert logs.lost == 2


# ---------------------------------------------------------------------------------- rate limit


def test_a_repeated_event_is_held_back_and_counted(
    logs: Logs, out: io.StringIO, clock: Clock
) -> None:
    for number in range(100):
        log.warning("peer failed", number=number)
    log.warning("another event")
    log.error("peer failed")
    assert [line["event"] for line in lines(out)[-3:]] == [
        "peer failed",
        "another event",
        "peer failed",
    ]
    assert len(lines(out)) == 22
    assert logs.limit.held == 80
    clock.now += 10.0
    log.warning("peer failed", number=100)
    log.warning("peer failed", number=101)
    assert lines(out)[-2]["held_back"] == 80
    assert "held_back" not in lines(out)[-1]


@pytest.mark.usefixtures("logs")
def test_libraries_are_held_back_too(out: io.StringIO) -> None:
    for number in range(100):
        logging.getLogger("lib").warning("failed %d", number)
    assert len(lines(out)) == 20


def test_a_level_that_is_off_counts_for_nothing(logs: Logs) -> None:
    for _ in range(100):
        log.debug("chatter")
    assert logs.limit.held == 0


def test_the_limit_remembers_a_bounded_number_of_kinds(clock: Clock) -> None:
    limit = RateLimit(clock, burst=1, kinds_max=10)
    for number in range(1000):
        assert limit.admit("l", "info", f"event {number}") == 0
    assert limit.admit("l", "info", "event 999") is None
    assert limit.admit("l", "info", "event 0") == 0

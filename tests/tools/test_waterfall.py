"""A trace as text: rows, bars on one scale, what took longest, at any width."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_tools.waterfall import ASCII, length, longest, pipeline, place, readers, waterfall

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(name: str, kind: str, start: float, end: float, **facts: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "start_s": start, "end_s": end, "facts": facts}


DOC: dict[str, Any] = {
    "seq": 9,
    "trace_id": TRACE,
    "span_id": "00f067aa0ba902b7",
    "parent_id": None,
    "stream": "orders",
    "partition": 0,
    "offset": 1204,
    "records": 1,
    "bytes": 42,
    "session": "shop",
    "began_us": 1_700_000_000_000_000,
    "total_s": 0.01,
    "outcome": "synced",
    "error": "",
    "watched": False,
    "spans_dropped": 0,
    "spans": [
        span("default/ingest", "queueing", 0.0, 0.001),
        span("default/ingest", "service", 0.001, 0.002),
        span("default/persist", "service", 0.004, 0.0095),
        span("default/persist", "queueing", 0.002, 0.004),
        span("default/ack", "service", 0.0095, 0.01),
        span("deliver/orders/mail", "delivery", 0.01, 0.011, attempt=1, member="m"),
        span("deliver/orders/mail", "handling", 0.011, 0.02, attempt=1, outcome="nack"),
        span("deliver/orders/mail", "delivery", 0.02, 1.02, attempt=2, member="m"),
        span("read/orders", "read", 0.01, 0.0101, reader="copier"),
    ],
}


def test_a_whole_trace() -> None:
    assert waterfall(DOC, 64, ASCII) == [
        "orders/0@1204  synced in 10 ms",
        "1 record, 42 B, 22:13:20.000 UTC",
        "from shop",
        f"trace {TRACE}",
        "",
        "                 .queueing   #service  0                   10 ms",
        "default/ingest        1 ms       1 ms  ..###",
        "default/persist       2 ms     5.5 ms       .....##############",
        "default/ack              -     500 us                         ##",
        "longest: default/persist, service, 5.5 ms (55%)",
        "",
        "after 10 ms, by its readers:",
        "                         .waiting  #handling  10 ms  1.02 s",
        "deliver/orders/mail          1 ms       9 ms  #             nack",
        "read copier                100 us          -  .",
        "deliver/orders/mail #2     1.00 s          -  ............. out",
    ]


def test_in_parts() -> None:
    assert [*pipeline(DOC, 64), "", *readers(DOC, 64)[1:]] == waterfall(DOC, 64)
    assert readers(DOC, 64)[0] == "orders/0@1204"
    assert readers(DOC | {"spans": DOC["spans"][:5]}, 64) == []


@pytest.mark.parametrize("width", [20, 40, 59, 80, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    lines = waterfall(DOC, width)
    assert max(map(len, lines)) <= width
    if width >= 40:
        assert any("persist" in line and "\u2588" in line for line in lines)


def test_where_it_is_narrow_names_go_without_their_pipeline() -> None:
    text = "\n".join(waterfall(DOC, 40, ASCII))
    assert "default" not in text
    assert "longest: persist, service, 5.5 ms (55%)" in text
    assert "mail #2" in text


def test_an_append_that_failed() -> None:
    doc = DOC | {"outcome": "timed_out", "offset": None, "partition": None, "spans": []}
    lines = waterfall(doc | {"error": "waited 30 s", "parent_id": "ab" * 8}, 80)
    assert lines[:2] == ["orders  timed_out in 10 ms", "waited 30 s"]
    assert lines[-3:] == [f"under {'ab' * 8}", "", "it came to no stage"]


def test_what_another_daemon_does_not_tell() -> None:
    assert waterfall({}, 80)[0] == "-  - in -"
    assert longest({}) == "-"
    assert waterfall({"spans": [span("x/new", "grouping", 0.0, 1.0)]}, 80)[-1].startswith("longest")


def test_a_text_cannot_act_on_the_terminal() -> None:
    lines = waterfall(DOC | {"stream": "a\x1b[2Jb", "session": "\n\x9b", "spans": []}, 80)
    assert all(line.isprintable() for line in lines)


def test_in_few_words() -> None:
    assert longest(DOC) == "default/persist service"
    assert place(DOC) == "orders/0@1204"
    assert place(DOC | {"offset": None}) == "orders/0"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 us"), (0.0000344, "34 us"), (0.0009996, "1 ms"), (0.00117, "1.17 ms"),
        (0.0217243, "21.7 ms"), (0.9991, "999 ms"), (0.9999, "1.00 s"), (3.409, "3.41 s"),
        (12.34, "12.3 s"), (300.0, "5 min"), (-0.00001, "-10 us"),
    ],
)  # fmt: skip
def test_lengths(seconds: float, text: str) -> None:
    assert length(seconds) == text

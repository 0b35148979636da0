"""Traces as values: what a traceparent says, and what a trace says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.observe.trace import SPANS_MAX, Parent, Trace, marks_of, parse_parent
from streamer.records import Record

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def trace() -> Trace:
    ids = bytes.fromhex(TRACE), bytes.fromhex(SPAN), bytes(range(8))
    return Trace(*ids, stream="s", began=100.0, began_us=1_700_000_000_000_000)


# -------------------------------------------------------------------------------- traceparent


@pytest.mark.parametrize("text", [SAMPLED, SAMPLED.encode()])
def test_a_sampled_parent(text: str | bytes) -> None:
    assert parse_parent(text) == Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), True)


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_last_bit_of_the_flags_says_sampled(flags: str, sampled: bool) -> None:
    parent = parse_parent(f"00-{TRACE}-{SPAN}-{flags}")
    assert parent is not None
    assert parent.sampled is sampled


@pytest.mark.parametrize("more", ["", "-", "-what-comes-later"])
def test_a_later_version_is_read_as_far_as_it_is_known(more: str) -> None:
    parent = parse_parent(f"cc-{TRACE}-{SPAN}-01{more}")
    assert parent is not None
    assert parent.sampled


@pytest.mark.parametrize(
    "text",
    [
        "",
        SAMPLED[:-1],
        SAMPLED + "-",
        SAMPLED + "-more",
        SAMPLED + "\n",
        " " + SAMPLED,
        SAMPLED.upper(),
        SAMPLED.replace("-", "_"),
        f"ff-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        "٠٠" + SAMPLED[2:],
        b"\xff" + SAMPLED.encode(),
    ],
)
def test_what_is_no_parent(text: str | bytes) -> None:
    assert parse_parent(text) is None


@given(st.text() | st.binary())
def test_anything_is_read_without_an_error(text: str | bytes) -> None:
    parse_parent(text)


def test_the_marks_of_records_are_the_sampled_ones_each_parent_once() -> None:
    other = f"00-{TRACE}-{'1' * 16}-01"
    headers = [
        None,
        {},
        {"other": b"x"},
        {"traceparent": SAMPLED.encode(), "tracestate": b"a=b"},
        {"traceparent": f"00-{TRACE}-{SPAN}-00".encode()},
        {"traceparent": b"nonsense"},
        {"traceparent": b""},
        {"traceparent": other.encode()},
        {"traceparent": SAMPLED.encode()},
    ]
    assert marks_of([Record(b"", headers=each) for each in headers]) == [(3, SAMPLED), (7, other)]


# ---------------------------------------------------------------------------------- documents


def test_a_trace_as_a_document() -> None:
    it = trace()
    it.span("default/ingest", "service", 100.25, 100.5)
    it.span("default/ingest", "queueing", 100.0, 100.25)
    it.span("deliver/s/g", "handling", 101.0, 103.0, attempt=2, outcome="ack")
    it.ended, it.outcome, it.partition, it.offset, it.seq = 100.75, "synced", 1, 7, 3
    assert it.doc(watched=True) == {
        "seq": 3,
        "trace_id": TRACE,
        "span_id": bytes(range(8)).hex(),
        "parent_id": SPAN,
        "stream": "s",
        "partition": 1,
        "offset": 7,
        "records": 1,
        "bytes": 0,
        "session": "",
        "began_us": 1_700_000_000_000_000,
        "total_s": 0.75,
        "outcome": "synced",
        "error": "",
        "watched": True,
        "spans_dropped": 0,
        "spans": [
            {
                "name": "default/ingest",
                "kind": "queueing",
                "start_s": 0.0,
                "end_s": 0.25,
                "facts": {},
            },
            {
                "name": "default/ingest",
                "kind": "service",
                "start_s": 0.25,
                "end_s": 0.5,
                "facts": {},
            },
            {
                "name": "deliver/s/g",
                "kind": "handling",
                "start_s": 1.0,
                "end_s": 3.0,
                "facts": {"attempt": 2, "outcome": "ack"},
            },
        ],
    }


def test_spans_above_the_bound_are_counted() -> None:
    it = trace()
    for number in range(SPANS_MAX + 3):
        it.span(f"place{number}", "service", 0.0, 1.0)
    assert len(it.spans) == SPANS_MAX
    assert it.doc()["spans_dropped"] == 3


def test_a_place_that_is_passed_in_parts_counts_once() -> None:
    it = trace()
    it.span("default/persist", "queueing", 100.0, 101.0)
    it.span("default/persist", "queueing", 100.0, 102.0)
    it.span("default/persist", "service", 101.0, 102.0)
    it.span("deliver/s/g", "handling", 103.0, 104.0)
    it.span("deliver/s/g", "handling", 105.0, 106.0)
    assert [span.end for span in it.spans] == [101.0, 102.0, 104.0, 106.0]

"""The tracer: which appends are traced, what becomes of a trace, and that all of it is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock as Clock

from streamer.batch import Codec
from streamer.errors import TimedOut
from streamer.observe import traces as module
from streamer.observe.deliveries import OUT_MAX
from streamer.observe.trace import MARKS_MAX, Span, Trace
from streamer.observe.traces import TRACES_MAX, Tracer
from streamer.pipeline.stage import Ack, Append
from streamer.records import AckLevel, Lane, Receipt, Record
from streamer.stats import Stats

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
WALL_US = 1_700_000_000_000_000


class Site:
    """A tracer, and appends as a session makes them."""

    def __init__(self, **settings: Any) -> None:
        self.stats = Stats()
        self.tracer = Tracer(self.stats, lambda: WALL_US, Random(1), **settings)
        self.answered: list[Ack] = []

    def counter(self, name: str) -> int:
        [found] = [each.value.value for each in self.stats.metrics() if each.name == name]
        assert isinstance(found, int)
        return found

    def append(
        self,
        *records: Record,
        stream: str = "s",
        batch: int = 0,
        marks: Sequence[tuple[int, str]] = (),
        began: float | None = None,
    ) -> Append:
        ack = Ack(max(1, len(records)), self.answered.append)
        encoded = Codec().encode_values([b"x"] * batch, now_us=0) if batch else None
        if not batch and not records:
            records = (Record(b"x"),)
        append = Append(
            stream,
            0,
            None,
            Lane.NORMAL,
            ack,
            100,
            trio.current_time() if began is None else began,
            batch=encoded,
            records=records,
        )
        self.tracer.begin(append, "a client", marks)
        return append

    def docs(self, **wanted: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.tracer.docs(**wanted)["traces"]
        return found


def ack(append: Append, offset: int = 7, **more: Any) -> None:
    append.ack.resolve_all(Receipt(append.stream, 0, offset, append.count, AckLevel.SYNCED, **more))


def traced(value: bytes = b"x", parent: str = PARENT) -> Record:
    return Record(value, headers={"traceparent": parent.encode()})


# -------------------------------------------------------------------------------- what is traced


async def test_nothing_is_traced_unless_it_is_asked_for(autojump_clock: Clock) -> None:
    site = Site()
    for append in (
        site.append(Record(b"x")),
        site.append(Record(b"x", headers={"other": b"y"})),
        site.append(traced(parent=PARENT[:-1] + "0")),
        site.append(traced(parent="nonsense")),
        site.append(batch=3),
    ):
        assert append.traces == ()
        ack(append)
    assert site.docs() == []
    assert site.tracer.deliveries.watched == {}
    assert site.counter("traces") == 0


async def test_the_next_appends_to_an_armed_stream_are_traced(autojump_clock: Clock) -> None:
    site = Site()
    assert site.tracer.arm("orders*", 2) == 2
    assert site.append(stream="other").traces == ()
    first, second = site.append(stream="orders"), site.append(stream="orders-eu", batch=3)
    assert len(first.traces) == len(second.traces) == 1
    assert site.append(stream="orders").traces == ()
    assert first.traces[0].parent_id is None
    assert first.traces[0].trace_id != second.traces[0].trace_id
    assert second.traces[0].records == 3
    assert site.tracer.arm("orders*", 5) == 5


async def test_what_is_armed_adds_up_within_a_bound(autojump_clock: Clock) -> None:
    site = Site()
    assert site.tracer.arm("*", 3) == 3
    assert site.tracer.arm("*", 4) == 7
    assert site.tracer.arm("*", 10**9) == module.ARM_COUNT_MAX
    for number in range(100):
        site.tracer.arm(f"s{number}", 1)
    # The oldest made room.
    assert site.append(stream="other").traces == ()
    assert site.append(stream="s99").traces


async def test_what_is_armed_is_taken_back_or_forgotten(autojump_clock: Clock) -> None:
    site = Site()
    site.tracer.arm("s", 5)
    site.tracer.disarm("other")
    assert site.append().traces
    site.tracer.disarm("s")
    assert site.append().traces == ()
    site.tracer.arm("s", 5)
    await trio.sleep(599)
    assert site.append().traces
    await trio.sleep(2)
    assert site.append().traces == ()
    assert site.tracer.arm("s", 1) == 1


async def test_a_sampled_traceparent_is_followed_and_the_record_is_found(
    autojump_clock: Clock,
) -> None:
    site = Site()
    append = site.append(Record(b"a"), traced(), Record(b"c"), traced())
    [trace] = append.traces
    assert trace.trace_id.hex() == TRACE
    assert trace.parent_id is not None
    assert trace.parent_id.hex() == SPAN
    for index in range(4):
        append.ack.resolve(index, Receipt("s", 0, 10 + index, 1, AckLevel.SYNCED))
    [doc] = site.docs()
    assert (doc["offset"], doc["outcome"], doc["session"]) == (11, "synced", "a client")
    assert (doc["parent_id"], doc["records"]) == (SPAN, 4)


async def test_of_a_batch_the_marks_say_which_records_are_followed(autojump_clock: Clock) -> None:
    site = Site()
    others = [(number, PARENT.replace(SPAN, f"{number:016x}")) for number in range(1, 20)]
    append = site.append(batch=3, marks=[(2, PARENT), (3, others[0][1]), (0, "nonsense")])
    [trace] = append.traces
    ack(append, 40)
    assert site.docs()[0]["offset"] == 42
    assert trace.index == 2
    # Of many callers some are followed.
    assert len(site.append(batch=100, marks=others).traces) == MARKS_MAX


async def test_an_armed_append_with_a_traceparent_belongs_to_that_trace(
    autojump_clock: Clock,
) -> None:
    site = Site(per_second=0)
    site.tracer.arm("s", 1)
    [trace] = site.append(traced()).traces
    assert trace.trace_id.hex() == TRACE
    assert site.append(traced()).traces == ()


async def test_what_nobody_armed_is_bounded_by_the_second_and_counted(
    autojump_clock: Clock,
) -> None:
    site = Site(per_second=5)
    assert sum(bool(site.append(traced()).traces) for _ in range(20)) == 5
    assert site.counter("traces_skipped") == 15
    await trio.sleep(0.4)
    assert sum(bool(site.append(traced()).traces) for _ in range(20)) == 2
    await trio.sleep(100)
    assert sum(bool(site.append(traced()).traces) for _ in range(20)) == 5
    assert site.counter("traces") == 12


async def test_by_chance(autojump_clock: Clock) -> None:
    site = Site(sample=0.5, per_second=1000)
    assert 400 < sum(bool(site.append().traces) for _ in range(1000)) < 600
    site.tracer.configure(sample=0.0, keep_s=60.0)
    assert not any(site.append().traces for _ in range(100))
    site.tracer.configure(sample=1.0, keep_s=60.0)
    assert site.append().traces


# ------------------------------------------------------------------------------ how it goes on


async def test_the_stages_add_spans_and_the_answer_ends_it(autojump_clock: Clock) -> None:
    site = Site()
    site.tracer.arm("s", 1)
    append = site.append()
    began = append.accepted_at
    await trio.sleep(0.5)
    [trace] = append.traces
    trace.span("default/ingest", "queueing", began + 0.25, began + 0.5)
    await trio.sleep(0.5)
    assert site.docs() == []
    ack(append)
    assert site.answered == [append.ack]
    [doc] = site.docs()
    assert doc["total_s"] == pytest.approx(1.0)
    assert doc["began_us"] == WALL_US
    spans = [(each["name"], each["kind"], each["start_s"], each["end_s"]) for each in doc["spans"]]
    # What the session did with it before is what is left at the beginning.
    assert spans == [
        ("session", "queueing", pytest.approx(0.0), pytest.approx(0.25)),
        ("default/ingest", "queueing", pytest.approx(0.25), pytest.approx(0.5)),
    ]
    seq = doc["seq"]
    trace.span("default/ack", "service", began + 1, began + 1)
    [doc] = site.docs(after=seq)
    assert len(doc["spans"]) == 3


async def test_the_wall_clock_is_that_of_the_beginning(autojump_clock: Clock) -> None:
    site = Site()
    site.tracer.arm("s", 1)
    [trace] = site.append(began=trio.current_time() - 2.5).traces
    assert trace.began_us == WALL_US - 2_500_000


async def test_an_append_that_fails_says_how(autojump_clock: Clock) -> None:
    site = Site()
    append = site.append(traced())
    append.ack.resolve_all(TimedOut("waited 30 s to be proposed, not appended"))
    [doc] = site.docs()
    assert (doc["outcome"], doc["offset"]) == ("timed_out", None)
    assert doc["error"] == "waited 30 s to be proposed, not appended"
    assert site.tracer.deliveries.watched == {}


@pytest.mark.parametrize(("offset", "shown"), [(7, 7), (-1, None)])
async def test_a_duplicate(autojump_clock: Clock, offset: int, shown: int | None) -> None:
    site = Site()
    ack(site.append(traced()), offset, duplicate=True)
    [doc] = site.docs()
    assert (doc["outcome"], doc["offset"]) == ("duplicate", shown)


# --------------------------------------------------------------------------------- deliveries


async def test_what_groups_do_with_its_record(autojump_clock: Clock) -> None:
    site = Site()
    deliveries = site.tracer.deliveries
    ack(site.append(traced()))
    await trio.sleep(1)
    deliveries.handed("s", 0, "mail", 5, 1, [0, 7, 8, 9], "worker")
    assert not deliveries.holding
    deliveries.handed("s", 1, "mail", 5, 1, [7, 8], "worker")
    assert not deliveries.holding
    deliveries.handed("s", 0, "mail", 5, 1, [0, 3, 7, 8], "worker")
    assert deliveries.holding
    await trio.sleep(2)
    deliveries.settled(5, [0, 3], "ack")
    deliveries.settled(4, [7, 8], "ack")
    assert deliveries.holding
    deliveries.settled(5, [7, 8], "nack")
    assert not deliveries.holding
    await trio.sleep(3)
    deliveries.handed("s", 0, "mail", 6, 2, [7, 8], "worker")
    await trio.sleep(4)
    deliveries.settled(6, [], "ack")
    spans = [
        (each["name"], each["kind"], round(each["start_s"]), round(each["end_s"]), each["facts"])
        for each in site.docs()[0]["spans"]
    ]
    first, second = ({"attempt": n, "member": "worker"} for n in (1, 2))
    assert spans == [
        ("deliver/s/mail", "delivery", 0, 1, first),
        ("deliver/s/mail", "handling", 1, 3, {**first, "outcome": "nack"}),
        ("deliver/s/mail", "delivery", 3, 6, second),
        ("deliver/s/mail", "handling", 6, 10, {**second, "outcome": "ack"}),
    ]


async def test_it_is_watched_for_so_long_and_what_is_out_then_still_counts(
    autojump_clock: Clock,
) -> None:
    site = Site(keep_s=10.0)
    deliveries = site.tracer.deliveries
    ack(site.append(traced()))
    assert site.docs()[0]["watched"]
    await trio.sleep(5)
    deliveries.handed("s", 0, "g", 1, 1, [7, 8], "")
    await trio.sleep(6)
    deliveries.handed("s", 0, "other", 2, 1, [7, 8], "")
    deliveries.settled(1, [], "ack")
    [doc] = site.docs()
    assert [(each["name"], each["kind"]) for each in doc["spans"]] == [
        ("deliver/s/g", "delivery"),
        ("deliver/s/g", "handling"),
    ]
    assert not doc["watched"]
    assert deliveries.watched == {}


async def test_a_group_that_is_quicker_than_the_answer(autojump_clock: Clock) -> None:
    site = Site()
    deliveries = site.tracer.deliveries
    append, other = site.append(traced()), site.append(traced())
    deliveries.handed("s", 0, "g", 1, 1, [5, 9], "worker")
    deliveries.handed("s", 1, "g", 2, 1, [5, 9], "worker")
    deliveries.read("s", 0, 5, 9, "reader")
    await trio.sleep(1)
    assert deliveries.holding
    deliveries.settled(1, [5, 6], "nack")
    deliveries.settled(1, [6, 8], "ack")
    await trio.sleep(1)
    ack(append, 7)
    spans = [
        (each["kind"], round(each["start_s"]), round(each["end_s"]), each["facts"].get("outcome"))
        for each in site.docs()[0]["spans"]
        if each["name"] != "session"
    ]
    assert spans == [
        ("delivery", 0, 0, None),
        ("read", 0, 0, None),
        ("handling", 0, 1, "ack"),
    ]
    ack(other, 8)
    kinds = [each["kind"] for each in site.docs()[1]["spans"]]
    assert kinds == ["delivery", "read", "queueing"]
    deliveries.settled(1, [], "nack")
    assert site.docs()[1]["spans"][-1]["facts"]["outcome"] == "nack"
    assert not deliveries.holding


async def test_an_append_that_fails_leaves_nothing_to_watch(autojump_clock: Clock) -> None:
    site = Site()
    append = site.append(traced())
    site.tracer.deliveries.handed("s", 0, "g", 1, 1, [5, 9], "worker")
    append.ack.resolve_all(TimedOut("late"))
    assert not site.tracer.deliveries.holding
    assert site.tracer.deliveries.watched == {}


async def test_what_a_reader_is_sent(autojump_clock: Clock) -> None:
    site = Site()
    ack(site.append(traced()))
    await trio.sleep(1)
    site.tracer.deliveries.read("s", 0, 8, 20, "reader")
    site.tracer.deliveries.read("s", 0, 0, 8, "reader")
    [span] = site.docs()[0]["spans"]
    assert (span["name"], span["kind"], span["facts"]) == ("read/s", "read", {"reader": "reader"})


async def test_nothing_grows(autojump_clock: Clock) -> None:
    site = Site(per_second=10**6)
    for number in range(2 * TRACES_MAX):
        ack(site.append(traced()), number)
    assert len(site.docs(limit=10**6)) == TRACES_MAX
    assert len(site.tracer.deliveries.watched["s", 0]) == TRACES_MAX
    for token in range(3000):
        end = 2 * TRACES_MAX - token % TRACES_MAX
        site.tracer.deliveries.handed(
            "s", 0, f"g{token // TRACES_MAX}", token, 1, [end - 1, end], ""
        )
    assert len(site.tracer.deliveries._out) == OUT_MAX


async def test_what_came_back_without_a_word_is_over_with_the_next_attempt(
    autojump_clock: Clock,
) -> None:
    site = Site()
    ack(site.append(traced()))
    site.tracer.deliveries.handed("s", 0, "g", 1, 1, [5, 9], "")
    site.tracer.deliveries.handed("s", 0, "other", 2, 1, [5, 9], "")
    site.tracer.deliveries.handed("s", 0, "g", 3, 1, [7, 8], "")
    over = [each["facts"].get("outcome") for each in site.docs()[0]["spans"]]
    assert [each for each in over if each] == ["lost"]
    site.tracer.deliveries.let_go()
    assert not site.tracer.deliveries.holding
    over = [each["facts"].get("outcome") for each in site.docs()[0]["spans"]]
    assert [each for each in over if each] == ["lost"] * 3


# -------------------------------------------------------------------------------------- looking


async def test_documents_come_in_order_a_page_at_a_time(autojump_clock: Clock) -> None:
    site = Site()
    site.tracer.arm("s", 5)
    appends = [site.append() for _ in range(5)]
    for number, append in enumerate(appends):
        ack(append, number)
    page = site.tracer.docs(limit=2)
    assert [doc["offset"] for doc in page["traces"]] == [0, 1]
    page = site.tracer.docs(after=page["next"], limit=2)
    assert [doc["offset"] for doc in page["traces"]] == [2, 3]
    page = site.tracer.docs(after=page["next"], limit=2)
    assert [doc["offset"] for doc in page["traces"]] == [4]
    assert site.tracer.docs(after=page["next"]) == {"next": page["next"], "traces": []}
    assert site.tracer.docs(limit=0) == {"next": page["next"], "traces": []}
    # One that something is added to comes again, as the newest.
    site.tracer.deliveries.handed("s", 0, "g", 1, 1, [1, 2], "")
    assert [doc["offset"] for doc in site.docs(after=page["next"])] == [1]


async def test_one_is_picked_by_how_its_id_begins(autojump_clock: Clock) -> None:
    site = Site()
    other = PARENT.replace(TRACE, "ab" * 16)
    for parent in (PARENT, other):
        ack(site.append(traced(parent=parent)))
    assert [doc["trace_id"] for doc in site.docs(trace_id="abab")] == ["ab" * 16]
    assert site.docs(trace_id="00") == []


async def test_waiting_for_one(autojump_clock: Clock) -> None:
    site = Site()
    began = trio.current_time()
    await site.tracer.wait(0, 10.0)
    assert trio.current_time() - began == pytest.approx(10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tracer.wait, 0, 100.0)
        await trio.sleep(1)
        ack(site.append(traced()))
    assert trio.current_time() - began == pytest.approx(11.0)
    # What is there already is not waited for.
    await site.tracer.wait(0, 100.0)
    assert trio.current_time() - began == pytest.approx(11.0)


# ------------------------------------------------------------------------------------ exporting


class Exported:
    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.spans: list[str] = []

    def trace(self, trace: Trace) -> None:
        self.traces.append(trace)

    def span(self, trace: Trace, span: Span) -> None:
        self.spans.append(span.kind)


async def test_an_exporter_gets_a_trace_once_and_what_comes_later_span_by_span(
    autojump_clock: Clock,
) -> None:
    site = Site()
    exported = site.tracer.exporter = Exported()
    append = site.append(traced())
    append.traces[0].span("default/ingest", "service", 0.0, 0.1)
    assert exported.traces == []
    ack(append)
    assert exported.traces == [append.traces[0]]
    assert exported.spans == []
    append.traces[0].span("default/ack", "service", 0.2, 0.3)
    site.tracer.deliveries.handed("s", 0, "g", 1, 1, [7, 8], "")
    site.tracer.deliveries.settled(1, [], "ack")
    assert exported.spans == ["service", "delivery", "handling"]

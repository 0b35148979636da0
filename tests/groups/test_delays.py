"""The index of waiting records: a model with a plain dict, and what the model cannot show."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamer.groups.delays import DelayIndex, DelayScan
from streamer.limits import OFFSET_MAX

# Few, so that many records are due at once.
TIMES = st.integers(-2, 40)


def scan_all(index: DelayIndex, records: dict[int, int]) -> None:
    """A scan that nothing disturbs."""
    scan = index.begin_scan()
    for offset, due_us in records.items():
        scan.offer(offset, due_us)
    assert scan.finish()


# ------------------------------------------------------------------------------------ by hand


def test_records_come_when_they_are_due_in_order() -> None:
    index = DelayIndex(10)
    assert (index.next_due_us, index.wake_us, index.waiting) == (None, None, 0)
    for offset, due_us in enumerate([300, 100, 200, 100, -5]):
        index.add(offset, due_us)
    assert (index.next_due_us, index.wake_us, index.waiting) == (0, 0, 5)
    assert index.complete_below_us is None
    assert index.due(99, 10) == [4]
    assert index.due(200, 2) == [1, 3]
    assert index.due(200, 2) == [2]
    assert index.due(299, 2) == []
    assert (index.next_due_us, index.waiting, index.indexed) == (300, 5, 1)
    index.done([1, 3])
    assert index.waiting == 3
    index.put_back([2, 4])
    assert index.due(200, 10) == [4, 2]
    index.remove([2, 0])
    index.done([4])
    assert (index.waiting, index.next_due_us) == (0, None)
    assert not index.needs_scan(10**9)


def test_a_full_index_lets_the_farthest_go_and_knows_where_it_ends() -> None:
    index = DelayIndex(4, ahead_us=0)
    records = dict(enumerate([500, 100, 400, 200, 300, 450]))
    for offset, due_us in records.items():
        index.add(offset, due_us)
    assert (index.indexed, index.waiting) == (3, 6)
    assert index.complete_below_us == 400
    assert not index.needs_scan(1000), "there is no room yet"
    assert index.due(1000, 2) == [1, 3]
    index.done([1, 3])
    assert (index.next_due_us, index.wake_us) == (300, 300)
    assert not index.needs_scan(399)
    assert index.needs_scan(400)
    assert index.due(1000, 9) == [4]
    index.done([4])
    assert (index.next_due_us, index.wake_us) == (400, 400)
    scan_all(index, {offset: records[offset] for offset in (0, 5, 2)})
    assert index.complete_below_us is None
    assert not index.needs_scan(1000)
    assert index.due(1000, 9) == [2, 5, 0]


def test_many_records_of_one_moment_are_indexed_a_part_at_a_time() -> None:
    index = DelayIndex(4, ahead_us=0)
    left = dict.fromkeys(range(11), 100)
    for offset, due_us in left.items():
        index.add(offset, due_us)
    moved = []
    while left:
        found = index.due(100, 100)
        if not found:
            assert index.needs_scan(100)
            assert index.next_due_us == 100
            scan_all(index, left)
            assert 0 < index.indexed <= 4
        index.done(found)
        moved += found
        for offset in found:
            del left[offset]
    assert moved == list(range(11))
    assert (index.waiting, index.next_due_us) == (0, None)


def test_after_a_restart_a_scan_is_the_first_thing() -> None:
    index = DelayIndex(10, waiting=3, next_offset=7)
    assert (index.waiting, index.next_due_us, index.complete_below_us) == (3, 0, 0)
    assert index.needs_scan(1)
    scan = index.begin_scan()
    assert scan.end == 7
    assert (index.wake_us, index.needs_scan(1)) == (None, False)
    scan.offer(6, 50)
    index.add(7, 40)
    scan.offer(7, 40)
    scan.offer(2, 60)
    assert index.waiting == 4
    assert scan.finish()
    assert index.waiting == 3, "the scan counts anew"
    assert index.due(100, 10) == [7, 6, 2]


def test_a_scan_is_asked_for_ahead_of_time() -> None:
    index = DelayIndex(4, ahead_us=60)
    for offset in range(5):
        index.add(offset, 100 * (offset + 1))
    index.done(index.due(200, 2))
    assert (index.complete_below_us, index.next_due_us, index.wake_us) == (400, 300, 300)
    index.done(index.due(300, 2))
    assert (index.next_due_us, index.wake_us) == (400, 340)
    assert not index.needs_scan(339)
    assert index.needs_scan(340)


def test_a_scan_that_is_given_up_leaves_the_index_as_it_was() -> None:
    index = DelayIndex(1, ahead_us=0)
    for offset in range(3):
        index.add(offset, 10)
    index.done(index.due(10, 1))
    scan = index.begin_scan()
    scan.offer(1, 10)
    index.add(3, 20)
    scan.abandon()
    assert (index.waiting, index.indexed) == (3, 0)
    assert index.needs_scan(10)
    scan_all(index, {1: 10, 2: 10, 3: 20})
    assert index.due(10, 5) == [1]


def test_a_scan_ends_where_records_are_removed() -> None:
    index = DelayIndex(1, ahead_us=0)
    for offset in range(4):
        index.add(offset, 10)
    [first] = index.due(10, 1)
    scan = index.begin_scan()
    scan.offer(1, 10)
    index.remove([first])
    assert not index.needs_scan(10), "what was handed out does not disturb"
    index.remove([1])
    assert index.needs_scan(10)
    scan.offer(2, 10)
    assert not scan.finish()
    scan.abandon()
    assert index.waiting == 2
    index.remove([2, 3])
    assert (index.waiting, index.complete_below_us) == (0, None)


def test_what_was_handed_out_beyond_the_horizon_is_not_found_twice() -> None:
    index = DelayIndex(1, ahead_us=0)
    index.add(0, 10)
    assert index.due(10, 1) == [0]
    index.add(1, 5)
    index.add(2, 6)
    assert index.complete_below_us == 6
    scan = index.begin_scan()
    for offset, due_us in ((0, 10), (1, 5), (2, 6)):
        scan.offer(offset, due_us)
    index.put_back([0])
    assert index.waiting == 3
    assert index.due(10, 5) == [1]
    assert scan.finish()
    assert index.due(10, 5) == [2]
    scan_all(index, {0: 10})
    assert index.due(10, 5) == [0]
    index.done([0, 1, 2])
    assert index.waiting == 0


@pytest.mark.parametrize("offset", [4, -1, OFFSET_MAX + 1])
def test_offsets_only_grow(offset: int) -> None:
    index = DelayIndex(4, next_offset=5)
    with pytest.raises(AssertionError):
        index.add(offset, 0)


def test_one_scan_at_a_time_and_only_what_waits() -> None:
    index = DelayIndex(4)
    index.add(0, 10)
    scan = index.begin_scan()
    with pytest.raises(AssertionError):
        index.begin_scan()
    assert scan.finish()
    with pytest.raises(AssertionError, match="did not wait"):
        index.remove([1])


def test_the_largest_numbers_have_room() -> None:
    index = DelayIndex(2)
    index.add(OFFSET_MAX - 1, OFFSET_MAX)
    index.add(OFFSET_MAX, OFFSET_MAX)
    assert index.due(OFFSET_MAX - 1, 5) == []
    assert index.due(OFFSET_MAX, 5) == [OFFSET_MAX - 1, OFFSET_MAX]


def test_memory_is_bounded_and_small() -> None:
    entries, base_us = 5_000, 1_790_000_000_000_000
    rng = random.Random(7)
    dues = [base_us + rng.randrange(10**12) for _ in range(5 * entries)]
    tracemalloc.start()
    try:
        index = DelayIndex(entries)
        for offset, due_us in enumerate(dues):
            index.add(offset, due_us)
        assert index.indexed <= entries
        assert tracemalloc.get_traced_memory()[0] < entries * 70
        index.done(index.due(base_us + 10**12, entries))
        tracemalloc.reset_peak()
        scan = index.begin_scan()
        for offset, due_us in enumerate(dues):
            scan.offer(offset, due_us)
        scan.finish()
        assert index.indexed == entries
        assert tracemalloc.get_traced_memory()[1] < 2.5 * entries * 70
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------- the model


class Delays(RuleBasedStateMachine):
    """`waits` is all that waits, by offset; `handed` what of it is handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0
        self.next_offset = 0
        self.waits: dict[int, int] = {}
        self.handed: list[int] = []
        self.moved: set[int] = set()
        self.scan: DelayScan | None = None
        self.to_offer: list[tuple[int, int]] = []

    @initialize(entries_max=st.integers(1, 9), there=st.lists(TIMES, max_size=30))
    def start(self, entries_max: int, there: list[int]) -> None:
        self.entries_max = entries_max
        self.next_offset = 2 * len(there)
        self.waits = {2 * index: max(due_us, 0) for index, due_us in enumerate(there)}
        self.index = DelayIndex(
            entries_max, waiting=len(there), next_offset=self.next_offset, ahead_us=3
        )

    @rule(times=st.lists(TIMES, min_size=1, max_size=12), gap=st.integers(0, 2))
    def append(self, times: list[int], gap: int) -> None:
        for due_us in times:
            offset = self.next_offset + gap
            self.index.add(offset, due_us)
            self.waits[offset] = max(due_us, 0)
            self.next_offset = offset + 1
            if self.scan is not None:
                self.to_offer.append((offset, due_us))

    @rule(by_us=st.integers(0, 10))
    def time_passes(self, by_us: int) -> None:
        self.now_us += by_us

    @rule(count=st.integers(0, 10))
    def hand_out(self, count: int) -> None:
        handed = set(self.handed)
        expected = sorted(
            (due_us, offset)
            for offset, due_us in self.waits.items()
            if due_us <= self.now_us and offset not in handed
        )
        found = self.index.due(self.now_us, count)
        assert found == [offset for _, offset in expected[: len(found)]]
        if len(found) < min(count, len(expected)):
            horizon_us = self.index.complete_below_us
            assert horizon_us is not None
            assert horizon_us <= expected[len(found)][0]
            assert self.scan is not None or self.index.needs_scan(self.now_us)
        self.handed += found

    def some(self, data: st.DataObject, of: list[int]) -> list[int]:
        return data.draw(st.lists(st.sampled_from(of), unique=True, max_size=8)) if of else []

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        offsets = self.some(data, self.handed)
        self.index.done(offsets)
        for offset in offsets:
            assert offset not in self.moved
            self.moved.add(offset)
            self.handed.remove(offset)
            del self.waits[offset]

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        offsets = self.some(data, self.handed)
        self.index.put_back(offsets)
        for offset in offsets:
            self.handed.remove(offset)

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        offsets = self.some(data, list(self.waits))
        self.index.remove(offsets)
        if set(offsets) - set(self.handed):
            # The scan, if there is one, is void: it must not matter what is still offered to it.
            for pair in self.to_offer:
                assert self.scan is not None
                self.scan.offer(*pair)
            assert self.scan is None or not self.scan.finish()
            self.scan, self.to_offer = None, []
        for offset in offsets:
            del self.waits[offset]
        self.handed = [offset for offset in self.handed if offset in self.waits]

    @precondition(lambda self: self.scan is None)
    @rule(rng=st.randoms(use_true_random=False))
    def begin(self, rng: random.Random) -> None:
        self.scan = self.index.begin_scan()
        # As a reader in a thread has it: of when the scan began, done or not when it is offered.
        self.to_offer = list(self.waits.items())
        rng.shuffle(self.to_offer)

    @precondition(lambda self: self.scan is not None)
    @rule(count=st.integers(1, 30))
    def offer(self, count: int) -> None:
        assert self.scan is not None
        for offset, due_us in self.to_offer[:count]:
            self.scan.offer(offset, due_us)
        del self.to_offer[:count]

    @precondition(lambda self: self.scan is not None)
    @rule()
    def finish(self) -> None:
        assert self.scan is not None
        self.offer(len(self.to_offer))
        assert self.scan.finish()
        self.scan = None
        # All that is left out is left out for want of room.
        if self.index.complete_below_us is not None:
            assert self.index.indexed == self.entries_max

    @precondition(lambda self: self.scan is not None)
    @rule()
    def give_up(self) -> None:
        assert self.scan is not None
        self.scan.abandon()
        self.scan, self.to_offer = None, []

    @invariant()
    def it_counts_and_is_bounded(self) -> None:
        if self.next_offset:
            assert self.index.waiting == len(self.waits)
            assert self.index.indexed <= self.entries_max

    @invariant()
    def it_wakes_in_time(self) -> None:
        if not self.next_offset:
            return
        idle = self.waits.keys() - set(self.handed)
        next_us = self.index.next_due_us
        if idle:
            earliest_us = min(self.waits[offset] for offset in idle)
            assert next_us is not None
            assert next_us <= earliest_us
            wake_us = self.index.wake_us
            assert self.scan is not None or (wake_us is not None and wake_us <= earliest_us)
        else:
            assert self.scan is not None or next_us is None

    def teardown(self) -> None:
        """All that waits comes out in the end, in order, once."""
        if not self.next_offset:
            return
        if self.scan is not None:
            self.finish()
        self.index.put_back(self.handed)
        assert self.index.waiting == len(self.waits)
        expected = sorted((due_us, offset) for offset, due_us in self.waits.items())
        found: list[int] = []
        while len(found) < len(expected):
            if self.index.needs_scan(100):
                scan_all(self.index, {o: t for o, t in self.waits.items() if o not in set(found)})
            batch = self.index.due(100, 7)
            assert batch or self.index.needs_scan(100)
            self.index.done(batch)
            found += batch
        assert found == [offset for _, offset in expected]
        assert (self.index.waiting, self.index.next_due_us) == (0, None)


TestDelays = Delays.TestCase
TestDelays.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)

"""Dead letters: there and back, within every bound, whatever the headers are."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.batch import Codec
from streamer.groups.letters import (
    DEAD_BYTES_MAX,
    DEAD_HEADER,
    MAX_DELIVERIES,
    REDRIVEN_HEADER,
    TERM,
    DeadFacts,
    dead_letter,
    facts_of,
    moved,
    redriven_of,
    revive,
)
from streamer.limits import OFFSET_MAX, BatchLimits
from streamer.records import Record

LIMITS = BatchLimits()
FACTS = DeadFacts(MAX_DELIVERIES, "mailers", "orders", 3, 4711, 5, "ValueError: no", 100, 200)
PLAIN = attrs.asdict(FACTS)
del PLAIN["headers_cut"]


def with_header(name: str, value: bytes) -> Record:
    return Record(b"v", headers={name: value})


def fits(record: Record) -> bool:
    headers = record.headers or {}
    size = sum(len(name) + len(value) for name, value in headers.items())
    return len(headers) <= LIMITS.headers and size <= LIMITS.headers_bytes


def test_there_and_back() -> None:
    record = Record(b"v", b"k", 17, {"h": b"1"})
    letter = dead_letter(record, FACTS)
    assert (letter.value, letter.key, letter.timestamp_us) == (b"v", b"k", 17)
    assert letter.headers is not None
    assert list(letter.headers) == ["h", DEAD_HEADER]
    assert json.loads(letter.headers[DEAD_HEADER]) == PLAIN
    assert facts_of(letter) == FACTS
    assert redriven_of(letter) == 0
    back = revive(letter)
    assert back == attrs.evolve(record, headers={"h": b"1", REDRIVEN_HEADER: b"1"})
    again = dead_letter(back, attrs.evolve(FACTS, reason=TERM))
    assert redriven_of(again) == 1
    found = facts_of(again)
    assert found is not None
    assert found.reason == TERM
    assert revive(again).headers == {"h": b"1", REDRIVEN_HEADER: b"2"}


def test_a_record_without_headers() -> None:
    record = Record(b"v")
    assert facts_of(record) is None
    assert redriven_of(record) == 0
    assert facts_of(dead_letter(record, FACTS)) == FACTS
    assert revive(record).headers == {REDRIVEN_HEADER: b"1"}


def test_a_letter_that_dies_again_has_the_newest_account_only() -> None:
    letter = dead_letter(dead_letter(Record(b"v"), FACTS), attrs.evolve(FACTS, group="other"))
    found = facts_of(letter)
    assert found is not None
    assert found.group == "other"
    assert len(letter.headers or {}) == 1


def test_nothing_waits_on_its_way() -> None:
    record = Record(b"v", b"k", 17, {"h": b"1"}, deliver_at_us=99)
    assert moved(record) == Record(b"v", b"k", 17, {"h": b"1"})
    assert dead_letter(record, FACTS).deliver_at_us is None
    assert revive(record).deliver_at_us is None


@pytest.mark.parametrize("error", ["x" * 9999, '"' * 9999, "\0" * 9999, "ü" * 999, "🙂" * 9999])
def test_a_long_error_is_cut_to_fit(error: str) -> None:
    names = attrs.evolve(FACTS, error=error, group="g" * 200, stream="s" * 200)
    letter = dead_letter(Record(b"v"), names)
    assert letter.headers is not None
    nbytes = len(letter.headers[DEAD_HEADER])
    found = facts_of(letter)
    assert found is not None
    assert nbytes < DEAD_BYTES_MAX
    if len(found.error) < len(error):
        assert nbytes >= DEAD_BYTES_MAX - 6, "no room is given away"
    assert error.startswith(found.error.removesuffix("…"))


def test_the_longest_names_have_room() -> None:
    facts = attrs.evolve(FACTS, group="🙂" * 200, stream="🙂" * 200, error="e" * 500)
    facts = attrs.evolve(facts, offset=OFFSET_MAX, first_us=OFFSET_MAX, last_us=OFFSET_MAX)
    found = facts_of(dead_letter(Record(b"v"), facts))
    assert found is not None
    assert found.group == facts.group
    assert found.error.endswith("e…")
    with pytest.raises(AssertionError, match="names of 3000 and 6"):
        dead_letter(Record(b"v"), attrs.evolve(FACTS, group="g" * 3000))


def test_a_crowded_record_gives_up_its_last_headers() -> None:
    headers = {REDRIVEN_HEADER: b"7"} | {f"h{n}": b"" for n in range(63)}
    letter = dead_letter(Record(b"v", headers=headers), FACTS)
    assert fits(letter)
    assert list(letter.headers or {}) == [*list(headers)[:-1], DEAD_HEADER]
    assert facts_of(letter) == attrs.evolve(FACTS, headers_cut=1)
    assert fits(revive(letter))
    assert redriven_of(revive(letter)) == 8
    large = {"a": bytes(40_000), "b": bytes(20_000), "c": bytes(5_533)}
    letter = dead_letter(Record(b"v", headers=large), FACTS)
    assert list(letter.headers or {}) == ["a", "b", DEAD_HEADER]
    assert facts_of(letter) == attrs.evolve(FACTS, headers_cut=1)


def test_a_count_that_is_none_gives_way_too() -> None:
    letter = dead_letter(with_header(REDRIVEN_HEADER, bytes(65_000)), FACTS)
    assert fits(letter)
    letter = dead_letter(with_header(REDRIVEN_HEADER, bytes(65_500)), FACTS)
    assert list(letter.headers or {}) == [DEAD_HEADER]


def test_a_record_that_was_never_a_letter_is_revived_within_bounds() -> None:
    crowded = Record(b"v", headers={f"h{n}": b"" for n in range(64)})
    back = revive(crowded)
    assert fits(back)
    assert redriven_of(back) == 1
    assert len(back.headers or {}) == 64


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"[" * 2000,
        b" " * DEAD_BYTES_MAX + json.dumps(PLAIN).encode(),
        json.dumps({**PLAIN, "offset": -1}).encode(),
        json.dumps({**PLAIN, "offset": 2**63}).encode(),
        json.dumps({**PLAIN, "offset": True}).encode(),
        json.dumps({**PLAIN, "offset": 1.0}).encode(),
        json.dumps({**PLAIN, "group": None}).encode(),
        json.dumps({**PLAIN, "error": "\ud800"}).encode(),
        json.dumps({**PLAIN, "headers_cut": "1"}).encode(),
        json.dumps({name: value for name, value in PLAIN.items() if name != "last_us"}).encode(),
    ],
)
def test_a_foreign_header_is_nothing(data: bytes) -> None:
    assert facts_of(with_header(DEAD_HEADER, data)) is None


def test_more_than_is_known_does_no_harm() -> None:
    data = json.dumps({**PLAIN, "later": [1]}).encode()
    assert facts_of(with_header(DEAD_HEADER, data)) == FACTS


@pytest.mark.parametrize(
    ("count", "redriven"),
    [
        (b"", 0),
        (b"7", 7),
        (b"007", 7),
        (b"-1", 0),
        (b" 1", 0),
        (b"x", 0),
        ("٣".encode(), 0),
        (b"9" * 19, OFFSET_MAX),
        (b"9" * 20, 0),
    ],
)
def test_counts_are_read_with_care(count: bytes, redriven: int) -> None:
    record = with_header(REDRIVEN_HEADER, count)
    assert redriven_of(record) == redriven
    assert redriven_of(revive(record)) == min(redriven + 1, OFFSET_MAX)


texts = st.text(st.characters(), max_size=200)
numbers = st.integers(0, OFFSET_MAX)
facts = st.builds(
    DeadFacts,
    st.sampled_from([MAX_DELIVERIES, TERM]),
    st.text(st.characters(exclude_categories=["C"]), max_size=200),
    st.text(st.characters(exclude_categories=["C"]), max_size=200),
    numbers,
    numbers,
    numbers,
    st.text(st.characters(), max_size=3000),
    numbers,
    numbers,
)
names = st.sampled_from([DEAD_HEADER, REDRIVEN_HEADER]) | texts.filter(lambda text: _sound(text))
headers = st.none() | st.dictionaries(names, st.binary(max_size=40), max_size=64)
records = st.builds(Record, st.binary(), st.none() | st.binary(), st.none() | numbers, headers)


def _sound(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


@given(records, facts)
@example(Record(b""), attrs.evolve(FACTS, error="\ud800"))
def test_any_record_dies_and_comes_back(record: Record, account: DeadFacts) -> None:
    letter = dead_letter(record, account)
    found: Any = facts_of(letter)
    own = {n: v for n, v in (record.headers or {}).items() if n != DEAD_HEADER}
    assert attrs.evolve(found, error="", headers_cut=0) == attrs.evolve(account, error="")
    assert found.headers_cut == max(0, len(own) - 63)
    assert redriven_of(letter) == redriven_of(record)
    back = revive(letter)
    assert fits(letter)
    assert fits(back)
    assert attrs.evolve(back, headers=None) == attrs.evolve(record, headers=None)
    own.pop(REDRIVEN_HEADER, None)
    kept = {n: v for n, v in (back.headers or {}).items() if n != REDRIVEN_HEADER}
    assert kept.items() <= own.items()


def test_the_fullest_letter_can_be_encoded() -> None:
    crowded = Record(b"v", None, 17, {f"h{n}": bytes(1000) for n in range(64)})
    letter = dead_letter(crowded, FACTS)
    codec = Codec()
    for record in (letter, revive(letter)):
        assert codec.records(codec.encode_records([record], now_us=20)) == [record]

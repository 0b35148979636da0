"""Lines to records and back: for any bytes and any chunks, the same bytes come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import TooLarge
from streamer_tools.lines import NO_NEWLINE, LineJoiner, LineSplitter, batched

pieces = st.lists(
    st.one_of(st.binary(max_size=20), st.sampled_from([b"\n", b"\r\n", b"\n\n", b"", b"\xff"])),
    max_size=20,
)


def split(chunks: list[bytes], limit: int = 1000) -> tuple[list[bytes], bytes | None]:
    splitter = LineSplitter(limit)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines, splitter.end()


@given(pieces)
def test_what_is_split_and_joined_is_the_same_bytes(chunks: list[bytes]) -> None:
    lines, rest = split(chunks)
    joiner = LineJoiner()
    out = joiner.join(lines)
    if rest is not None:
        out += joiner.join([rest], [{NO_NEWLINE: b""}])
    assert out == b"".join(chunks)


@given(pieces)
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    assert split(chunks) == split([b"".join(chunks)])


def test_only_newline_ends_a_line() -> None:
    assert split([b"a\rb\x0cc\x85\xe2\x80\xa8\r\n\n\xff"]) == (
        [b"a\rb\x0cc\x85\xe2\x80\xa8\r", b""],
        b"\xff",
    )


def test_an_empty_file_has_no_lines() -> None:
    assert split([b""]) == ([], None)
    assert split([]) == ([], None)


def test_a_newline_alone_is_one_empty_line() -> None:
    assert split([b"\n"]) == ([b""], None)


def test_a_line_above_the_limit_is_named_by_its_number() -> None:
    splitter = LineSplitter(4)
    assert splitter.feed(b"1\n1234\n") == [b"1", b"1234"]
    with pytest.raises(TooLarge, match="line 4 has 5 bytes, allowed are 4"):
        splitter.feed(b"\n12345\n")


def test_a_line_that_never_ends_is_not_kept_for_ever() -> None:
    splitter = LineSplitter(4)
    splitter.feed(b"a\n12")
    with pytest.raises(TooLarge, match="line 2 has more than 4 bytes"):
        splitter.feed(b"345")


def test_the_mark_takes_no_newline_from_between_two_records() -> None:
    joiner = LineJoiner()
    mark = {NO_NEWLINE: b""}
    assert joiner.join([b"one", b"two"], [mark, mark]) == b"one\ntwo"
    assert joiner.join([]) == b""
    assert joiner.join([b"three"]) == b"\nthree\n"


@given(st.lists(st.binary(max_size=30), max_size=50), st.integers(1, 5), st.integers(1, 60))
def test_batches_hold_all_values_within_their_bounds(
    values: list[bytes], records_max: int, bytes_max: int
) -> None:
    parts = list(batched(values, records_max, bytes_max))
    assert [value for part in parts for value in part] == values
    for part in parts:
        assert 1 <= len(part) <= records_max
        assert len(part) == 1 or sum(map(len, part)) <= bytes_max

"""The guarded decoder: what it takes, and that what hurts is refused quickly."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import cbor
from streamer.limits import CBOR_DEPTH_MAX

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=40)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert cbor.loads(cbor.dumps(value)) == value


@given(VALUES, st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_refused(value: Any, more: bytes) -> None:
    with pytest.raises(cbor.CBORError, match=f"{len(more)} bytes follow"):
        cbor.loads(cbor.dumps(value) + more)


@given(VALUES, st.data())
def test_truncation_is_refused(value: Any, data: st.DataObject) -> None:
    whole = cbor.dumps(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(cbor.CBORError):
        cbor.loads(whole[:cut])
    with pytest.raises(cbor.CBORError):
        cbor.check_items(whole[:cut], 1000)


@given(st.binary(max_size=200))
def test_garbage_is_a_value_or_our_error(data: bytes) -> None:
    with contextlib.suppress(cbor.CBORError):
        cbor.loads(data)
    with contextlib.suppress(cbor.CBORError):
        cbor.check_items(data, 100)


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"\x81" * depth + b"\x00"

    assert cbor.loads(nested(CBOR_DEPTH_MAX))
    with pytest.raises(cbor.CBORError, match="depth"):
        cbor.loads(nested(CBOR_DEPTH_MAX + 1))
    with pytest.raises(cbor.CBORError, match="depth"):
        cbor.loads(nested(1_000_000))
    assert cbor.loads(nested(1), 1) == [0]
    # Empty ones hold nothing, so they are not counted.
    assert cbor.loads(b"\x82\x80\xa0", 1) == [[], {}]
    with pytest.raises(cbor.CBORError, match="depth"):
        cbor.loads(nested(2), 1)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


#: Values of the kind that each tag expects, so that its own decoder would have been reached.
_TAGGED = {0: "2020-01-01T00:00:00Z", 1: 1, 2: b"\x01", 3: b"\x01", 35: "a+", 258: [1]}


@pytest.mark.parametrize("number", [*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799, 2**40])
def test_tags_are_refused(number: int) -> None:
    head = io.BytesIO()
    cbor2.CBOREncoder(head).encode_length(6, number)
    data = head.getvalue() + cbor.dumps(_TAGGED.get(number, [1, 2]))
    for wrapped in (data, b"\x81" + data, b"\xa1\x61a" + data):
        with pytest.raises(cbor.CBORError, match="tag") as caught:
            cbor.loads(wrapped)
        # Refused by us, and not because its own decoder did not like the value.
        assert isinstance(_root(caught.value), cbor.CBORError)
        with pytest.raises(cbor.CBORError, match="tag"):
            cbor.check_items(wrapped, 100)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xa2\x61a\x01\x61a\x02", id="duplicate key"),
        pytest.param(b"\xa1\x01\x02", id="integer key"),
        pytest.param(b"\xa1\x80\x02", id="array key"),
        pytest.param(b"\x9f\x00\xff", id="indefinite array"),
        pytest.param(b"\xbf\x61a\x00\xff", id="indefinite map"),
        pytest.param(b"\x5f\x41a\xff", id="indefinite bytes"),
        pytest.param(b"\x7f\x61a\xff", id="indefinite text"),
        pytest.param(b"\xff", id="break"),
        pytest.param(b"\x1c", id="reserved head"),
        pytest.param(b"\xfc", id="reserved simple"),
        pytest.param(b"\xf8\x00", id="simple in two bytes"),
        pytest.param(b"\x61\xff", id="not UTF-8"),
        pytest.param(b"\x63\xed\xa0\x80", id="surrogate"),
        pytest.param(b"\x9b" + b"\x7f" * 8, id="huge array"),
        pytest.param(b"\xbb" + b"\x7f" * 8, id="huge map"),
        pytest.param(b"\x5b" + b"\x7f" * 8, id="huge bytes"),
        pytest.param(b"\x7b" + b"\xff" * 8, id="huge text"),
        pytest.param(b"\x9a\xff\xff\xff\xff" + bytes(1000), id="forged count"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_no_cbor_of_ours(data: bytes) -> None:
    with pytest.raises(cbor.CBORError):
        cbor.loads(data)


def test_forged_lengths_allocate_nothing() -> None:
    tracemalloc.start()
    try:
        for data in (b"\x9b" + b"\x3f" * 8, b"\x5b" + b"\x3f" * 8, b"\x5a\x7f\xff\xff\xff"):
            with pytest.raises(cbor.CBORError):
                cbor.loads(data)
            with pytest.raises(cbor.CBORError):
                cbor.check_items(data, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [object(), "\ud800", {"a": {"b": "\udfff"}}])
def test_what_has_no_encoding(value: Any) -> None:
    with pytest.raises(cbor.CBORError):
        cbor.dumps(value)


def test_a_cycle_has_no_encoding() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(cbor.CBORError):
        cbor.dumps(value)


def _items(value: Any) -> int:
    """How many array entries, keys and values there are, the slow and plain way."""
    if isinstance(value, list):
        return len(value) + sum(map(_items, value))
    if isinstance(value, dict):
        return 2 * len(value) + sum(map(_items, value.values()))
    return 0


@given(VALUES)
def test_items_are_counted_exactly(value: Any) -> None:
    data, count = cbor.dumps(value), _items(value)
    cbor.check_items(data, count)
    if count:
        with pytest.raises(cbor.TooManyItems):
            cbor.check_items(data, count - 1)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_heads_of_every_length(size: int) -> None:
    for value in ([0] * size, bytes(size), "x" * size):
        data = cbor.dumps(value)
        cbor.check_items(data, size)
        if isinstance(value, list):
            count, at = cbor.array_head(b"\xf6" + data, 1)
            assert (count, len(data) + 1 - at) == (size, size)
        else:
            with pytest.raises(cbor.CBORError, match="no array"):
                cbor.array_head(data)
    count, at = cbor.array_head(b"\x9b" + size.to_bytes(8, "big"))
    assert (count, at) == (size, 9)


@pytest.mark.parametrize("data", [b"\x9c", b"\x9f", b"", b"\x18", b"\x42a", b"\x19\x01"])
def test_bad_and_cut_off_heads(data: bytes) -> None:
    with pytest.raises(cbor.CBORError):
        cbor.array_head(data)
    with pytest.raises(cbor.CBORError):
        cbor.check_items(b"\x82\x00" + data, 100)

"""Training a dictionary: it helps small batches of like records, and says so honestly."""

from __future__ import annotations

import pytest

from streamer_tools.bench.values import log_lines
from streamer_tools.dictionary import trained
from streamer_tools.exits import Told


def test_a_dictionary_helps_single_records_most() -> None:
    data, worth = trained(log_lines(3000, 200), 8192)
    assert 1000 < len(data) <= 8192
    gain = {records: 1 - worth[records]["with"] / worth[records]["without"] for records in worth}
    assert gain["1"] > 0.2
    assert gain["1"] > gain["100"]


def test_a_dictionary_made_twice_is_the_same() -> None:
    values = log_lines(1000, 200)
    assert trained(values, 4096) == trained(values, 4096)


def test_records_too_short_to_be_compressed_gain_nothing() -> None:
    _, worth = trained([b"x"] * 100, 16384)
    assert worth["1"]["with"] == worth["1"]["without"]


def test_a_dictionary_that_cannot_be_made_is_refused_in_words() -> None:
    with pytest.raises(Told, match=r"zstd learns nothing from these 80 records: .*too small"):
        trained([b"abc"] * 100, 10)

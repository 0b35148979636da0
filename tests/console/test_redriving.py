"""What a request to redrive may ask for, and how much of it is done at once."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.console.redriving import REDRIVE_MAX, first_of, wanted
from streamer.errors import BadRequest
from streamer.groups.ranges import Ranges
from streamer.limits import OFFSET_MAX


def test_what_is_meant() -> None:
    assert wanted({"stream": "s", "ranges": [1, 3, 5, 6]}) == ("s", 0, Ranges([1, 3, 5, 6]))
    assert wanted({"stream": "s", "partition": 2, "end": 9}) == ("s", 2, Ranges([0, 9]))
    assert wanted({"stream": "s", "ranges": []}) == ("s", 0, Ranges())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stream": "s"},
        {"stream": "s", "ranges": [1, 2], "end": 3},
        {"stream": "s", "ranges": [1, 2], "all": True},
        {"stream": 1, "ranges": [1, 2]},
        {"stream": "s", "ranges": "1-2"},
        {"stream": "s", "ranges": [1]},
        {"stream": "s", "ranges": [2, 1]},
        {"stream": "s", "ranges": [1, 1]},
        {"stream": "s", "ranges": [1, 3, 2, 4]},
        {"stream": "s", "ranges": [-1, 3]},
        {"stream": "s", "ranges": [0, OFFSET_MAX + 1]},
        {"stream": "s", "ranges": [0, True]},
        {"stream": "s", "ranges": [0, 1.0]},
        {"stream": "s", "end": 0},
        {"stream": "s", "end": None},
        {"stream": "s", "partition": "0", "end": 1},
    ],
)
def test_what_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        wanted(body)


def test_a_portion_of_what_waits() -> None:
    assert first_of(Ranges([2, 5, 8, 9]), Ranges([0, 4, 8, 20])) == (Ranges([2, 4, 8, 9]), 0)
    assert first_of(Ranges(), Ranges([0, 4])) == (Ranges(), 0)
    many = Ranges([0, REDRIVE_MAX - 1, REDRIVE_MAX + 10, REDRIVE_MAX + 20])
    chosen, left = first_of(many, Ranges([0, OFFSET_MAX]))
    assert chosen == Ranges([0, REDRIVE_MAX - 1, REDRIVE_MAX + 10, REDRIVE_MAX + 11])
    assert left == 9

"""From bytes to keys."""

from __future__ import annotations

import pytest

from streamer_tools.top.keys import Keys

CASES = [
    (b"q", ["q"]), (b"jk", ["j", "k"]), (b"\t", ["tab"]), (b"\x1b[Z", ["backtab"]),
    (b"\r", ["enter"]), (b"\n", ["enter"]), (b"\x7f", ["backspace"]), (b" ", ["space"]),
    (b"\x1b[A\x1b[B", ["up", "down"]), (b"\x1bOA", ["up"]), (b"\x1b[1;5C", ["right"]),
    (b"\x1b[5~\x1b[6~", ["pageup", "pagedown"]), (b"\x1b[H\x1b[4~", ["home", "end"]),
    ("é三".encode(), ["é", "三"]), (b"\x0c\x15", ["ctrl-l", "ctrl-u"]),
    # What is not known becomes nothing, above all not a q.
    (b"\x1b[200~\x1b[?1;2q\x1bOq\x00\x07", []),
    (b"\x1bx", ["esc", "x"]), (b"\x1b\x1b[A", ["esc", "up"]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "keys"), CASES)
def test_keys_are_known_whole_and_byte_by_byte(data: bytes, keys: list[str]) -> None:
    assert Keys().feed(data) == keys
    pieces = Keys()
    assert [key for byte in data for key in pieces.feed(bytes([byte]))] == keys


def test_an_escape_by_itself_is_the_key_once_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.open
    assert keys.flush() == ["esc"]
    assert not keys.open
    assert keys.feed(b"[A") == ["[", "A"]


def test_a_sequence_that_breaks_off_is_dropped() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b[1;") == []
    assert keys.flush() == []
    assert keys.feed(b"q") == ["q"]


def test_an_endless_sequence_is_not_kept() -> None:
    keys = Keys()
    keys.feed(b"\x1b[" + b"1" * 1000)
    assert not keys.open

"""What is done: a cursor, ranges above it, and what of it the journal has not been told."""

from __future__ import annotations

from streamer.groups.progress import Progress


def test_in_turn_only_the_cursor_moves() -> None:
    progress = Progress(5)
    assert progress.finish(5, 10) == 5
    assert (progress.cursor, progress.done.bounds) == (10, [])


def test_out_of_turn_it_is_a_range_until_the_gap_closes() -> None:
    progress = Progress()
    assert progress.finish(5, 10) == 5
    assert progress.finish(12, 15) == 3
    assert (progress.cursor, progress.done.bounds) == (0, [5, 10, 12, 15])
    assert progress.finish(0, 5) == 5
    assert (progress.cursor, progress.done.bounds) == (10, [12, 15])
    assert [progress.is_done(offset) for offset in (9, 10, 12, 15)] == [True, False, True, False]


def test_what_was_done_before_does_not_count_again() -> None:
    progress = Progress(10)
    progress.finish(12, 14)
    assert progress.finish(0, 8) == 0
    assert progress.finish(5, 13) == 2
    assert progress.cursor == 14


def test_news_are_taken_once() -> None:
    progress = Progress()
    progress.finish(0, 3)
    progress.finish(5, 6)
    assert progress.take_news() == [0, 3, 5, 6]
    assert progress.take_news() == []


def test_what_the_journal_knows_is_no_news() -> None:
    progress = Progress()
    assert progress.finish(0, 3, told=True) == 3
    assert progress.cursor == 3
    assert progress.take_news() == []

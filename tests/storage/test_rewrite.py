"""Writing the unproven tail again: at every point it can be interrupted and begun again."""

from __future__ import annotations

import contextlib
import errno
import random

import pytest

from streamer.batch import Codec
from streamer.storage.index import SparseIndex
from streamer.storage.producers import ProducerTable
from streamer.storage.rewrite import Rewrite
from streamer.testing.memory_files import MemoryFiles, ProcessDied

OLD = "/d/00000000000000000000.log"
NEW = "/d/00000000000000000005.log"


def _frame(offset: int, count: int) -> bytes:
    batch = Codec().encode_values([b"value"] * count, now_us=1)
    return batch.placed(base_offset=offset, append_time_us=1, high_water=0).to_bytes()


PROVEN, UNPROVEN = _frame(0, 5), _frame(5, 2)
HEAD, TAIL = len(PROVEN), len(UNPROVEN)


def prepared() -> MemoryFiles:
    files = MemoryFiles()
    files.make_dir("/d")
    file = files.create(OLD)
    file.write_at(0, [PROVEN])
    file.sync()
    files.sync_dir("/d")
    file.write_at(HEAD, [UNPROVEN, b"and torn"])
    return files


@pytest.mark.parametrize("target", [OLD, NEW])
def test_it_is_there_whatever_happens_meanwhile(target: str) -> None:
    for number in range(40):
        files = prepared()
        where = (0, HEAD + TAIL, 0, OLD) if target == OLD else (HEAD, TAIL, 5, NEW)
        rewrite = Rewrite(files.process(), OLD, *where, None)
        files.die_at_call(files.calls + number)
        try:
            rewrite.run()
        except ProcessDied:
            assert files.read(OLD)[:HEAD] == PROVEN
            if target == NEW and files.size(OLD) == HEAD:
                # All was done but to say so.
                assert files.read(NEW) == UNPROVEN
            else:
                Rewrite(files, OLD, *where, None).run()
        else:
            files.heal()
        files.power_cut(random.Random(number))
        if target == OLD:
            assert files.read(OLD) == PROVEN + UNPROVEN
        else:
            assert files.read(OLD)[:HEAD] == PROVEN
            assert files.read(NEW) == UNPROVEN
        if number > files.calls:
            break


def test_what_is_sealed_gets_its_sidecars() -> None:
    files = prepared()
    beside = SparseIndex(0, 100), ProducerTable(5)
    Rewrite(files, OLD, HEAD, TAIL, 5, NEW, beside).run()
    assert files.listdir("/d") == [
        "00000000000000000000.index",
        "00000000000000000000.log",
        "00000000000000000000.producers",
        "00000000000000000005.log",
    ]
    assert files.read(OLD) == PROVEN


def test_a_source_that_becomes_shorter_is_a_fault_of_the_disk() -> None:
    files = prepared()
    with pytest.raises(OSError, match="became shorter"):
        Rewrite(files, OLD, HEAD, 800, 5, NEW, None).run()
    assert files.listdir("/d") == ["00000000000000000000.log"]


def test_pages_that_left_the_cache_unwritten_are_not_taken_for_the_tail() -> None:
    files = prepared()
    files.fail_next("sync")
    with pytest.raises(OSError, match="Input/output error"):
        files.open(OLD).sync()
    files.evict()
    with pytest.raises(OSError, match="the tail changed after it was read: no batch header"):
        Rewrite(files, OLD, HEAD, TAIL, 5, NEW, None).run()
    # Nothing was cut, and nothing is left of the copy.
    assert files.listdir("/d") == ["00000000000000000000.log"]
    assert files.size(OLD) > HEAD + TAIL


def test_it_can_be_run_again_where_no_call_got_a_file_handle() -> None:
    for number in range(40):
        files = prepared()
        rewrite = Rewrite(files, OLD, HEAD, TAIL, 5, NEW, (SparseIndex(0, 100), ProducerTable(5)))
        begin = files.calls
        files.fail_call(begin + number, errno.EMFILE)
        with contextlib.suppress(OSError):
            rewrite.run()
        files.heal()
        # Also where all but the sidecars was done: nothing is cut before they are written.
        if files.size(OLD) != HEAD:
            rewrite.run()
        assert files.read(OLD) == PROVEN
        assert files.read(NEW) == UNPROVEN
        if begin + number > files.calls:
            break

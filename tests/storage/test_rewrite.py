"""Writing the unproven tail again: at every point it can be interrupted and begun again."""

from __future__ import annotations

import random

import pytest

from streamer.storage.index import SparseIndex
from streamer.storage.producers import ProducerTable
from streamer.storage.rewrite import Rewrite
from streamer.testing.memory_files import MemoryFiles, ProcessDied

OLD = "/d/00000000000000000000.log"
NEW = "/d/00000000000000000005.log"


def prepared() -> MemoryFiles:
    files = MemoryFiles()
    files.make_dir("/d")
    file = files.create(OLD)
    file.write_at(0, [b"proven"])
    file.sync()
    files.sync_dir("/d")
    file.write_at(6, [b"unproven and torn"])
    return files


@pytest.mark.parametrize("target", [OLD, NEW])
def test_it_is_there_whatever_happens_meanwhile(target: str) -> None:
    for number in range(40):
        files = prepared()
        seen_tail = files.read(OLD)[6:14]
        rewrite = (
            Rewrite(files.process(), OLD, 0, 14, OLD, None)
            if target == OLD
            else Rewrite(files.process(), OLD, 6, 8, NEW, None)
        )
        files.die_at_call(files.calls + number)
        try:
            rewrite.run()
        except ProcessDied:
            assert files.read(OLD)[:6] == b"proven"
            again = Rewrite(
                files, rewrite.source, rewrite.position, rewrite.nbytes, rewrite.target, None
            )
            if target == NEW and files.size(OLD) == 6:
                # All was done but to say so.
                assert files.read(NEW) == seen_tail
            else:
                again.run()
        else:
            files.heal()
        files.power_cut(random.Random(number))
        if target == OLD:
            assert files.read(OLD) == b"proven" + seen_tail
        else:
            assert files.read(OLD)[:6] == b"proven"
            assert files.read(NEW) == seen_tail
        if number > files.calls:
            break


def test_what_is_sealed_gets_its_sidecars() -> None:
    files = prepared()
    Rewrite(files, OLD, 6, 8, NEW, (SparseIndex(0, 100), ProducerTable(5))).run()
    assert files.listdir("/d") == [
        "00000000000000000000.index",
        "00000000000000000000.log",
        "00000000000000000000.producers",
        "00000000000000000005.log",
    ]
    assert files.read(OLD) == b"proven"


def test_a_source_that_becomes_shorter_is_a_fault_of_the_disk() -> None:
    files = prepared()
    with pytest.raises(OSError, match="became shorter"):
        Rewrite(files, OLD, 6, 800, NEW, None).run()
    assert files.listdir("/d") == ["00000000000000000000.log"]

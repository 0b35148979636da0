"""A daemon of one's own: started, found, ended; and said why where it does not start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamer_tools.exits import Told
from streamer_tools.own_daemon import OwnDaemon, own_daemon

if TYPE_CHECKING:
    from conftest import Shell


def test_a_daemon_that_does_not_start_says_why(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("[daemon]\nnonsense = 1\n")
    with (
        pytest.raises(Told, match=r"(?s)ended with status 78.*daemon\.nonsense"),
        own_daemon(tmp_path, ["--config", str(config)]),
    ):
        pytest.fail("it started")
    assert list(tmp_path.iterdir()) == [config]


def test_it_is_ended_even_if_the_block_fails(tmp_path: Path) -> None:
    seen: list[OwnDaemon] = []

    def fail() -> None:
        with own_daemon(tmp_path) as daemon:
            seen.append(daemon)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    [daemon] = seen
    assert {"ws", "tcp", "unix"} == {url.partition(":")[0] for url in daemon.listen}
    assert daemon.process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_several_partitions_are_read_one_after_the_other(
    tmp_path: Path, shell_at: type[Shell]
) -> None:
    config = tmp_path / "three.toml"
    config.write_text("[streams]\npartitions = 3\n")
    with own_daemon(tmp_path, ["--config", str(config)]) as daemon:
        shell = shell_at(daemon.url())
        for partition in "201":
            lines = b"".join(b"%s%d\n" % (partition.encode(), number) for number in range(3))
            shell("produce", "s", "--partition", partition, stdin=lines)
        assert shell("consume", "s").stdout.split() == [
            b"00", b"01", b"02", b"10", b"11", b"12", b"20", b"21", b"22",
        ]  # fmt: skip
        assert shell("consume", "s", "--partition", "1").stdout == b"10\n11\n12\n"
        assert shell("consume", "s", "--count", "4").stdout == b"00\n01\n02\n10\n"
        assert len(shell("consume", "s", "--follow", "--count", "4").stdout.split()) == 4
        followed = shell("consume", "s", "--follow", "--json", "--count", "9").stdout
        places = [json.loads(line) for line in followed.splitlines()]
        assert sorted((place["partition"], place["offset"]) for place in places) == [
            (partition, offset) for partition in range(3) for offset in range(3)
        ]
        shell("produce", "s", "--partition", "3", stdin=b"x\n", status=1)

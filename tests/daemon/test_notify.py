"""What the service manager hears, over a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from streamer.daemon.notify import Notifier, keep_watchdog


class Manager:
    """The other end: a datagram socket, as systemd's."""

    def __init__(self, address: str | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify.sock")


@pytest.fixture
def manager(path: str) -> Iterator[Manager]:
    manager = Manager(path)
    yield manager
    manager.close()


def test_each_message(path: str, manager: Manager) -> None:
    with Notifier(path, monotonic_ns=lambda: 5_000_999) as notifier:
        assert notifier
        assert notifier.ready("serving")
        assert notifier.reloading()
        assert notifier.stopping("draining\n10 sessions\r\n")
        assert notifier.watchdog()
        assert notifier.status("busy")
        assert notifier.extend(2.5)
    assert manager.heard() == [
        "READY=1\nSTATUS=serving",
        "RELOADING=1\nMONOTONIC_USEC=5000",
        "STOPPING=1\nSTATUS=draining 10 sessions",
        "WATCHDOG=1",
        "STATUS=busy",
        "EXTEND_TIMEOUT_USEC=2500000",
    ]


def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"streamer-test{tmp_path}"
    manager = Manager(b"\0" + name.encode())
    with Notifier(f"@{name}") as notifier:
        assert notifier.ready()
    assert manager.heard() == ["READY=1"]
    manager.close()


@pytest.mark.parametrize("where", [None, "", "vsock:2:1234"])
def test_nobody_to_tell(where: str | None) -> None:
    with Notifier(where, watchdog_s=None) as notifier:
        assert not notifier
        assert not notifier.ready()
        assert not notifier.watchdog()


def test_a_manager_that_went_away_is_no_error(path: str, manager: Manager) -> None:
    notifier = Notifier(path)
    manager.close()
    assert not notifier.ready()
    notifier.close()
    notifier.close()
    assert not notifier.ready()


def test_a_manager_that_does_not_read_never_blocks_us(path: str, manager: Manager) -> None:
    with Notifier(path) as notifier:
        while notifier.status("x" * 1000):
            pass
    assert manager.heard()


# --------------------------------------------------------------------------------- environment


def test_the_variables_are_taken_out_of_the_environment(path: str, manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "X": "y"}
    with Notifier.from_environment(environ, pid=7) as notifier:
        assert notifier.watchdog_s == 30.0
        assert notifier.ready()
    assert environ == {"X": "y"}
    assert manager.heard() == ["READY=1"]


@pytest.mark.parametrize(
    ("variables", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1000000"}, 1.0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval(
    path: str, variables: dict[str, str], watchdog_s: float | None
) -> None:
    with Notifier.from_environment({"NOTIFY_SOCKET": path, **variables}, pid=7) as notifier:
        assert notifier.watchdog_s == watchdog_s


def test_an_empty_environment_means_that_nobody_asked() -> None:
    environ = {"WATCHDOG_USEC": "1000000"}
    with Notifier.from_environment(environ, pid=7) as notifier:
        assert not notifier
        assert notifier.watchdog_s is None


# ------------------------------------------------------------------------------------ watchdog


async def test_signs_of_life_only_while_alive(
    path: str, manager: Manager, autojump_clock: object
) -> None:
    alive = True
    with Notifier(path, watchdog_s=10.0) as notifier, trio.move_on_after(100.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_watchdog, notifier, lambda: alive)
            await trio.sleep(12.0)
            assert manager.heard() == ["WATCHDOG=1"] * 3
            alive = False
            await trio.sleep(30.0)
            assert manager.heard() == []
            alive = True
            await trio.sleep(5.0)
            assert manager.heard() == ["WATCHDOG=1"]
            nursery.cancel_scope.cancel()


async def test_without_a_watchdog_the_task_ends(path: str, manager: Manager) -> None:
    with Notifier(path) as notifier:
        await keep_watchdog(notifier, lambda: True)
    assert manager.heard() == []

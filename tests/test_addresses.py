"""Addresses: what is one, what is none, and who can reach it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.addresses import Address, host_port, is_wildcard, parse, parse_host_port


@pytest.mark.parametrize(
    ("url", "address", "loopback"),
    [
        ("ws://127.0.0.1:4440", Address("ws", "127.0.0.1", 4440), True),
        ("ws://127.0.0.1:4440/", Address("ws", "127.0.0.1", 4440), True),
        ("tcp://localhost:0", Address("tcp", "localhost", 0), True),
        ("ws://[::1]:65535", Address("ws", "::1", 65535), True),
        ("tcp://0.0.0.0:1", Address("tcp", "0.0.0.0", 1), False),
        ("ws://example.org:80", Address("ws", "example.org", 80), False),
        ("unix:/run/s.sock", Address("unix", path="/run/s.sock"), True),
        ("unix:///run/s.sock", Address("unix", path="/run/s.sock"), True),
        ("unix:here.sock", Address("unix", path="here.sock"), True),
    ],
)
def test_good_addresses(url: str, address: Address, loopback: bool) -> None:
    assert parse(url) == address
    assert parse(str(address)) == address
    assert address.loopback is loopback


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:4440",
        "http://127.0.0.1:4440",
        "wss://127.0.0.1:4440",
        "ws:127.0.0.1:4440",
        "ws://",
        "ws://127.0.0.1",
        "ws://:4440",
        "ws://127.0.0.1:x",
        "ws://127.0.0.1:65536",
        "ws://127.0.0.1:-1",
        "ws://127.0.0.1:4440/path",
        "ws://127.0.0.1:4440?query",
        "ws://user@127.0.0.1:4440",
        "ws://::1:4440",
        "ws://[::1:4440",
        " ws://127.0.0.1:4440",
        "ws://127.0.0.1:4440 ",
        "unix:",
        "unix://",
        "unix:a\0b",
        "unix:" + "x" * 108,
    ],
)
def test_bad_addresses(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(url)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for prefix in ("", "ws://", "tcp://", "unix:", "ws://127.0.0.1:"):
        try:
            address = parse(prefix + text)
        except ValueError:
            continue
        assert parse(str(address)) == address


def test_port_and_host_parts() -> None:
    assert parse_host_port("[::1]:80") == ("::1", 80)
    assert host_port("::1", 80) == "[::1]:80"
    assert host_port("a", 80) == "a:80"
    assert Address("ws", "::1").at_port(5) == Address("ws", "::1", 5)
    assert is_wildcard("::")
    assert not is_wildcard("127.0.0.1")

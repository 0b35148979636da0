"""Which requests are taken for those of our own page."""

from __future__ import annotations

import pytest

from streamer.console.guards import check_host, check_own_page
from streamer.errors import NotAllowed

ORIGINS = ("https://ops.example.org",)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:4441", "127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:4441", "192.0.2.7:80",
        "box.example.org:4441", "ops.example.org",
    ],
)  # fmt: skip
def test_hosts_that_nobody_else_can_have(host: str) -> None:
    check_host({"host": host}, ("box.example.org",), ORIGINS)


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:4441",
        "127.0.0.1@evil.example", "[::1", "ops.example.org.evil.example", ":4441",
    ],
)  # fmt: skip
def test_hosts_that_may_be_anybodys(host: str) -> None:
    with pytest.raises(NotAllowed, match="origins"):
        check_host({"host": host}, ("",), ORIGINS)


GOOD = {
    "host": "127.0.0.1:4441",
    "origin": "http://127.0.0.1:4441",
    "sec-fetch-site": "same-origin",
    "x-streamer-console": "1",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sec-fetch-site": None},
        {"origin": "https://127.0.0.1:4441"},
        # Behind a proxy: the browser knows us by the name in the config.
        {"origin": "https://ops.example.org"},
    ],
)
def test_our_own_page(changes: dict[str, str | None]) -> None:
    check_own_page(with_changes(changes), ORIGINS)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "null"},
        {"origin": None},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://ops.example.org", "sec-fetch-site": "cross-site"},
        {"x-streamer-console": None},
        {"x-streamer-console": "0"},
    ],
)
def test_what_is_not_our_own_page(changes: dict[str, str | None]) -> None:
    with pytest.raises(NotAllowed):
        check_own_page(with_changes(changes), ORIGINS)


def with_changes(changes: dict[str, str | None]) -> dict[str, str]:
    found = {**GOOD, **changes}
    return {name: value for name, value in found.items() if value is not None}

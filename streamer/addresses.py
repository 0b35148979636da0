"""Where a daemon listens and a client connects: `ws://HOST:PORT`, `tcp://HOST:PORT`, `unix:PATH`.

Parsed in one place for the config, the listeners and the client, so that they cannot disagree.
"""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

import attrs

Scheme = Literal["ws", "tcp", "unix"]
FORMS = "ws://HOST:PORT, tcp://HOST:PORT or unix:PATH"
#: `sun_path` of Linux holds 108 bytes, the last one a zero.
UNIX_PATH_BYTES_MAX = 107


@attrs.frozen
class Address:
    """One place to listen at or to connect to; `str()` gives the URL again."""

    scheme: Scheme
    #: Without the brackets of IPv6; empty for `unix`.
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        return f"{self.scheme}://{host_port(self.host, self.port)}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.scheme == "unix" or is_loopback(self.host)

    def at_port(self, port: int) -> Address:
        """The same with the port that the system gave."""
        return attrs.evolve(self, port=port)


def parse(url: str) -> Address:
    """Take an address apart.

    Raises:
        ValueError: it is none; the text says what is wrong with it.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if path.startswith("//"):
            path = path[2:]
        if not path or "\0" in path or len(path.encode()) > UNIX_PATH_BYTES_MAX:
            raise ValueError(f"unix: takes a path of 1 to {UNIX_PATH_BYTES_MAX} bytes")
        return Address("unix", path=path)
    scheme, colon, rest = url.partition("://")
    if scheme == "ws" and colon:
        return Address("ws", *parse_host_port(rest.removesuffix("/")))
    if scheme == "tcp" and colon:
        return Address("tcp", *parse_host_port(rest.removesuffix("/")))
    raise ValueError("no such form of address")


def parse_host_port(text: str) -> tuple[str, int]:
    """Take `HOST:PORT` or `[IPV6]:PORT` apart.

    Raises:
        ValueError: it is neither; the text says what is wrong with it.
    """
    if any(char in text for char in "/@?#\\") or text != text.strip():
        raise ValueError("only a host and a port may be given")
    parts = urlsplit(f"//{text}")
    port = parts.port
    if not parts.hostname:
        raise ValueError("the host is missing")
    if port is None:
        raise ValueError("the port is missing")
    return parts.hostname, port


def host_port(host: str, port: int) -> str:
    """The opposite of `parse_host_port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own; a name other than `localhost` counts as not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether a host stands for every address of the machine."""
    return host in ("0.0.0.0", "::")

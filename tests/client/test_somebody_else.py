"""Somebody else at the address: a web server, a daemon of another kind, one who hangs up.

Rules: over real sockets, so on the real clock; nothing here waits for a deadline.
"""

from __future__ import annotations

import pytest
import trio

from streamer import connect
from streamer.errors import ConnectionFailed, FrameTooLarge, RemoteProtocolError, StreamerError


@pytest.mark.parametrize(
    ("scheme", "greeting", "error", "said"),
    [
        (
            "tcp",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            FrameTooLarge,
            "at {} does not speak our protocol: frame of",
        ),
        (
            "ws",
            b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
            RemoteProtocolError,
            "at {} does not .*: a web server .*HTTP status 403",
        ),
        ("ws", b"", ConnectionFailed, "no daemon answers at {}: websocket handshake failed"),
        ("tcp", b"", ConnectionFailed, "no daemon answers at {}: the connection ended"),
    ],
)
async def test_somebody_else_at_the_address(
    scheme: str, greeting: bytes, error: type[StreamerError], said: str
) -> None:
    """Whatever it is, the sentence names the address."""

    async def somebody(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(greeting)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, somebody, listeners)
        url = f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with pytest.raises(error, match=said.format(url)):
            async with connect(url):
                pass
        nursery.cancel_scope.cancel()

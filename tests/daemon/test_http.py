"""Health and metrics over real HTTP, and clients that behave badly."""

from __future__ import annotations

import json
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import hypercorn.trio
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from streamer.daemon.health import Health
from streamer.daemon.http import _listen, build_app, serve_http
from streamer.stats import Stats


@attrs.define
class Site:
    """A running server and what it shows."""

    stats: Stats
    health: Health = attrs.field(factory=lambda: Health(ok=True, ready=True))
    varz: Callable[[], dict[str, Any]] = lambda: {"connections": 3}
    url: str = ""

    async def get(
        self, path: str, method: str = "GET", body: bytes | None = None
    ) -> tuple[int, str, str]:
        """Status, content type and text, by an ordinary blocking client in a thread."""

        def fetch() -> tuple[int, str, str]:
            request = urllib.request.Request(self.url + path, method=method, data=body)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, answer.headers["content-type"], answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers["content-type"], error.read().decode()

        return await trio.to_thread.run_sync(fetch)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)


@asynccontextmanager
async def open_site(bind: str = "127.0.0.1:0") -> AsyncIterator[Site]:
    site = Site(Stats())
    app = build_app(stats=site.stats, health=lambda: site.health, varz=lambda: site.varz())
    closing = trio.Event()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            site.url = await nursery.start(partial(serve_http, bind, app, shutdown=closing.wait))
            yield site
            closing.set()


async def test_the_index_lists_the_pages() -> None:
    async with open_site() as site:
        status, _, text = await site.get("/")
        assert (status, text.split()) == (200, ["/healthz", "/readyz", "/metrics", "/varz"])
        assert (await site.get("/nope"))[0] == 404


async def test_health_and_readiness() -> None:
    async with open_site() as site:
        for state, healthz, readyz in [
            (Health(ok=True, ready=True), 200, 200),
            (Health(ok=True, ready=False, reasons=("draining",)), 200, 503),
            (Health(ok=False, ready=True, reasons=("stuck",)), 503, 503),
            (Health(ok=False, ready=False, reasons=("a", "b")), 503, 503),
        ]:
            site.health = state
            expected = {"ok": state.ok, "ready": state.ready, "reasons": list(state.reasons)}
            for path, status in (("/healthz", healthz), ("/readyz", readyz)):
                found, kind, text = await site.get(path)
                assert (found, kind) == (status, "application/json")
                assert json.loads(text) == expected


async def test_varz_is_json() -> None:
    async with open_site() as site:
        status, kind, text = await site.get("/varz")
        assert (status, kind, json.loads(text)) == (200, "application/json", {"connections": 3})


async def test_metrics_are_what_prometheus_reads() -> None:
    async with open_site() as site:
        stats = site.stats
        stats.counter("acks", "answers given", stream="a").value += 3
        stats.counter("acks", "answers given", stream='b"\n\\').value += 1
        stats.gauge("depth", "items waiting", lambda: 2.5)
        stats.info("build", "what runs", version="0.1.0")
        latency = stats.latency("commit_seconds", "one commit", pipeline="default")
        for _ in range(4):
            latency.record(0.25)
        status, kind, text = await site.get("/metrics")
        assert status == 200
        assert kind.startswith("text/plain")
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        default = ("pipeline", "default")
        assert found["streamer_acks_total", (("stream", "a"),)] == 3
        assert found["streamer_acks_total", (("stream", 'b"\n\\'),)] == 1
        assert found["streamer_depth", ()] == 2.5
        assert found["streamer_build_info", (("version", "0.1.0"),)] == 1
        assert found["streamer_commit_seconds_count", (default,)] == 4
        assert found["streamer_commit_seconds_sum", (default,)] == 1.0
        assert found["streamer_commit_longest_seconds", (default,)] == 0.25
        for quantile in ("0.5", "0.95", "0.99", "0.999"):
            key = ("streamer_commit_seconds", (default, ("quantile", quantile)))
            assert found[key] == pytest.approx(0.25, rel=0.01)
        assert found["process_resident_memory_bytes", ()] > 1_000_000
        assert text.count("# TYPE streamer_acks_total counter") == 1


async def test_nothing_can_be_changed_from_outside() -> None:
    async with open_site() as site:
        assert (await site.get("/varz", "DELETE"))[0] == 405
        assert (await site.get("/varz", "POST", b"x"))[0] in (405, 413)
        assert (await site.get("/varz"))[0] == 200


async def test_a_page_that_fails_is_a_500_and_the_server_goes_on() -> None:
    async with open_site() as site:

        def fail() -> dict[str, Any]:
            raise ValueError("a bug")

        site.varz = fail
        assert (await site.get("/varz"))[0] == 500
        site.varz = dict
        assert (await site.get("/varz"))[0] == 200


async def test_a_gauge_that_fails_is_no_number_and_the_page_goes_on() -> None:
    def fail() -> float:
        raise ValueError("a plugin's bug")

    async with open_site() as site:
        site.stats.gauge("broken", "", fail)
        site.stats.gauge("whole", "", lambda: 1.0)
        status, _, text = await site.get("/metrics")
        assert status == 200
        assert "streamer_broken NaN\n" in text
        assert "streamer_whole 1.0\n" in text


# ----------------------------------------------------------------------------------- addresses


async def test_ipv6() -> None:
    async with open_site("[::1]:0") as site:
        assert site.url.startswith("http://[::1]:")
        assert (await site.get("/healthz"))[0] == 200


async def test_a_port_that_is_taken_is_said_in_words() -> None:
    async with open_site() as site:
        bind = "{}:{}".format(*site.address)
        app = build_app(stats=site.stats, health=lambda: site.health, varz=dict)
        with pytest.raises(OSError, match=f"cannot listen on {bind}: Address already in use"):
            await serve_http(bind, app, shutdown=trio.sleep_forever)
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.host\.invalid:1: "):
        await serve_http("no.such.host.invalid:1", app, shutdown=trio.sleep_forever)


async def test_the_port_is_free_again_at_once() -> None:
    async with open_site() as site:
        assert (await site.get("/healthz"))[0] == 200
    async with open_site("{}:{}".format(*site.address)) as again:
        assert (await again.get("/healthz"))[0] == 200


# ------------------------------------------------------------------------------- going down


async def test_shutdown_and_cancelling_end_it_with_a_client_connected() -> None:
    for cancel in (False, True):
        closing = trio.Event()
        app = build_app(stats=Stats(), health=lambda: Health(True, True), varz=dict)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                url = await nursery.start(
                    partial(serve_http, "127.0.0.1:0", app, shutdown=closing.wait)
                )
                port = int(url.rpartition(":")[2])
                idle = await trio.open_tcp_stream("127.0.0.1", port)
                await idle.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await idle.receive_some()).startswith(b"HTTP/1.1 200")
                if cancel:
                    nursery.cancel_scope.cancel()
                closing.set()
        await idle.aclose()


async def test_the_server_is_started_again_when_it_fails(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    async def serve(app: object, settings: Any, *, shutdown_trigger: object) -> None:
        runs.append(settings.bind)
        for sock in settings.create_sockets().insecure_sockets:
            sock.close()
        if len(runs) < 3:
            raise ExceptionGroup("unhandled", [ValueError("an odd connection")])

    monkeypatch.setattr(hypercorn.trio, "serve", serve)
    app = build_app(stats=Stats(), health=lambda: Health(True, True), varz=dict)
    await serve_http("127.0.0.1:0", app, shutdown=trio.sleep_forever)
    assert len(runs) == 3


# --------------------------------------------------------------------------------- bad clients


def test_a_client_that_reads_nothing_is_dropped_by_the_kernel() -> None:
    with _listen("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            limit = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert limit == 5_000


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff" * 1000,
        b"GET " + b"/x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
        b"GET /varz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_garbage_ends_its_own_connection_only(garbage: bytes, reset: bool) -> None:
    async with open_site() as site:
        for _ in range(3):
            stream = await trio.open_tcp_stream(*site.address)
            with trio.move_on_after(0.2):
                try:
                    await stream.send_all(garbage)
                    if not reset:
                        await stream.send_eof()
                        while await stream.receive_some():
                            pass
                except trio.BrokenResourceError:
                    pass
            if reset:
                linger = struct.pack("ii", 1, 0)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await trio.aclose_forcefully(stream)
        assert (await site.get("/healthz"))[0] == 200

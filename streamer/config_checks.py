"""What concerns more than one setting at once, or needs more than a bound to tell.

Each check yields faults and goes on: an operator mends a file in one round. The environment (free
ports, rights, room on the disk) is not looked at; starting tells about that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from streamer import addresses
from streamer.config import Config, StreamConfig, matches
from streamer.config_trace import check_trace
from streamer.limits import KIB, STREAM_NAME_CHARS_MAX
from streamer.settings import Fault

#: What a frame holds besides its batch: a stream's name (up to 800 bytes), numbers, CBOR heads.
FRAME_OVERHEAD_BYTES = 4 * KIB
_GLOB = frozenset("*?[")
_REMOTE = (
    "a loopback address (127.0.0.1, ::1, localhost) or a Unix socket: without TLS and tokens, "
    "which are not there yet, anyone who can connect can read and write; allow_remote = true "
    "permits it"
)


def check(config: Config) -> list[Fault]:
    """All faults of a configuration whose single settings are within their bounds."""
    checks: tuple[Callable[[Config], Iterator[Fault]], ...] = (
        _listen,
        _sessions,
        _batches,
        _streams,
        _pipelines,
        _trace,
    )
    return [fault for one in checks for fault in one(config)]


# ------------------------------------------------------------------------------------ addresses


def _listen(config: Config) -> Iterator[Fault]:
    daemon = config.daemon
    if not daemon.data or "\0" in daemon.data:
        yield Fault("daemon.data", f'"{daemon.data}"', "the path of a directory")
    if not daemon.listen:
        yield Fault("daemon.listen", "an empty list", f"at least one of {addresses.FORMS}")
    taken: dict[tuple[str, int], list[str]] = {}
    paths: dict[str, str] = {}
    for index, url in enumerate(daemon.listen):
        key = f"daemon.listen[{index}]"
        try:
            address = addresses.parse(url)
        except ValueError as error:
            yield Fault(key, f'"{url}" ({error})', addresses.FORMS)
            continue
        if address.scheme == "unix":
            if address.path in paths:
                yield Fault(key, f'"{url}"', f"a path that {paths[address.path]} does not have")
            paths[address.path] = key
        else:
            yield from _host(config, key, url, address.host)
            yield from _clash(taken, key, url, address.host, address.port)
    if daemon.http:
        yield from _http(config, taken)
    for index, origin in enumerate(daemon.origins):
        scheme, _, host = origin.partition("://")
        if scheme not in ("http", "https") or not host or "/" in host:
            allowed = "an origin as a browser sends it: https://HOST or https://HOST:PORT"
            yield Fault(f"daemon.origins[{index}]", f'"{origin}"', allowed)


def _http(config: Config, taken: dict[tuple[str, int], list[str]]) -> Iterator[Fault]:
    key, text = "daemon.http", config.daemon.http
    try:
        host, port = addresses.parse_host_port(text)
    except ValueError as error:
        yield Fault(key, f'"{text}" ({error})', 'HOST:PORT, or "" for none')
        return
    yield from _host(config, key, text, host)
    yield from _clash(taken, key, text, host, port)


def _host(config: Config, key: str, text: str, host: str) -> Iterator[Fault]:
    if not config.daemon.allow_remote and not addresses.is_loopback(host):
        yield Fault(key, f'"{text}"', _REMOTE)


def _clash(
    taken: dict[tuple[str, int], list[str]], key: str, text: str, host: str, port: int
) -> Iterator[Fault]:
    """Port 0 is any free one. An address for all hosts takes the port of each."""
    if not port:
        return
    host = "127.0.0.1" if host == "localhost" else host
    for (other_host, other_port), (other_key, *_) in taken.items():
        same_host = host == other_host or any(map(addresses.is_wildcard, (host, other_host)))
        if port == other_port and same_host:
            yield Fault(key, f'"{text}"', f"a port that {other_key} does not have")
            return
    taken[host, port] = [key]


# ------------------------------------------------------------------------------------- tracing


def _trace(config: Config) -> Iterator[Fault]:
    yield from check_trace(config.trace)


# ---------------------------------------------------------------------------------------- sizes


def _sessions(config: Config) -> Iterator[Fault]:
    session = config.session
    if session.sessions_per_address > session.sessions:
        yield _more_than(
            "session.sessions_per_address",
            session.sessions_per_address,
            "session.sessions",
            session.sessions,
        )
    if session.budget_bytes < session.window_bytes:
        yield _less_than(
            "session.budget_bytes",
            session.budget_bytes,
            "session.window_bytes",
            session.window_bytes,
        )
    if session.send_queue_bytes < session.frame_bytes:
        yield _less_than(
            "session.send_queue_bytes",
            session.send_queue_bytes,
            "session.frame_bytes",
            session.frame_bytes,
        )
    needed = config.batch.batch_bytes + FRAME_OVERHEAD_BYTES
    if session.frame_bytes < needed:
        yield Fault(
            "session.frame_bytes",
            f"{session.frame_bytes}",
            f"at least {needed}: batch.batch_bytes and {FRAME_OVERHEAD_BYTES} for the envelope",
        )


def _batches(config: Config) -> Iterator[Fault]:
    batch = config.batch
    for key in ("batch_bytes", "value_bytes", "key_bytes", "headers_bytes"):
        value = getattr(batch, key)
        if value > batch.raw_bytes:
            yield _more_than(f"batch.{key}", value, "batch.raw_bytes", batch.raw_bytes)


def _streams(config: Config) -> Iterator[Fault]:
    streams = config.streams
    yield from _segments("streams", streams, config.batch.batch_bytes)
    yield from _memory("streams", streams)
    for index, override in enumerate(streams.override):
        key = f"streams.override[{index}]"
        if not override.streams:
            yield Fault(f"{key}.streams", "nothing", "at least one name or glob of a stream")
        for at, pattern in enumerate(override.streams):
            yield from _pattern(f"{key}.streams[{at}]", pattern)
            if not _GLOB & set(pattern) and config.pipeline_of(pattern) is None:
                yield Fault(
                    f"{key}.streams[{at}]",
                    f'stream "{pattern}", which no pipeline serves',
                    "a stream that matches the `streams` of a pipeline",
                )
        merged = attrs.evolve(override, streams=("*",))
        whole = attrs.evolve(streams, override=(merged,)).of("any")
        sizes = (override.segment_bytes, override.index_bytes, override.retention_bytes)
        if any(size is not None for size in sizes):
            yield from _segments(key, whole, config.batch.batch_bytes)
        if override.storage is not None or override.retention_groups is not None:
            yield from _memory(key, whole)


def _segments(key: str, stream: StreamConfig, batch_bytes: int) -> Iterator[Fault]:
    if stream.segment_bytes < batch_bytes:
        yield _less_than(
            f"{key}.segment_bytes", stream.segment_bytes, "batch.batch_bytes", batch_bytes
        )
    if stream.index_bytes > stream.segment_bytes:
        yield _more_than(
            f"{key}.index_bytes", stream.index_bytes, f"{key}.segment_bytes", stream.segment_bytes
        )
    if 0 < stream.retention_bytes < stream.segment_bytes:
        yield Fault(
            f"{key}.retention_bytes",
            f"{stream.retention_bytes}",
            f"0 for none, or at least {key}.segment_bytes ({stream.segment_bytes}): only whole "
            "segments are dropped",
        )


def _memory(key: str, stream: StreamConfig) -> Iterator[Fault]:
    if stream.storage == "memory" and stream.retention_groups:
        yield Fault(
            f"{key}.retention_groups",
            f"{list(stream.retention_groups)}",
            '[] where storage is "memory": what is above memory_bytes is dropped, whoever still '
            "needs it",
        )


# ------------------------------------------------------------------------------------ pipelines


def _pipelines(config: Config) -> Iterator[Fault]:
    if not config.pipelines:
        yield Fault("pipelines", "an empty list", "at least one pipeline")
    names: dict[str, str] = {}
    patterns: dict[str, str] = {}
    for index, pipeline in enumerate(config.pipelines):
        key = f"pipelines[{index}]"
        if not pipeline.name or not pipeline.name.isprintable() or len(pipeline.name) > 100:
            yield Fault(f"{key}.name", f'"{pipeline.name}"', "1 to 100 printable characters")
        if pipeline.name in names:
            allowed = f"a name that {names[pipeline.name]} does not have"
            yield Fault(f"{key}.name", f'"{pipeline.name}"', allowed)
        names.setdefault(pipeline.name, key)
        if not pipeline.streams:
            yield Fault(f"{key}.streams", "an empty list", "at least one name or glob of a stream")
        if pipeline.backoff_max_s < pipeline.backoff_s:
            yield _less_than(
                f"{key}.backoff_max_s",
                pipeline.backoff_max_s,
                f"{key}.backoff_s",
                pipeline.backoff_s,
            )
        for at, pattern in enumerate(pipeline.streams):
            yield from _pattern(f"{key}.streams[{at}]", pattern)
            before = next((patterns[p] for p in patterns if _covers(p, pattern)), None)
            if before is not None:
                yield Fault(
                    f"{key}.streams[{at}]",
                    f'"{pattern}", all of which {before} serves already',
                    "streams that no pipeline before it serves",
                )
        patterns.update(dict.fromkeys(pipeline.streams, key))


def _covers(earlier: str, later: str) -> bool:
    """Whether nothing is left of `later`; only the plain cases are told."""
    return earlier in ("*", later) or (not _GLOB & set(later) and matches(later, [earlier]))


def _pattern(key: str, pattern: str) -> Iterator[Fault]:
    good = 0 < len(pattern) <= STREAM_NAME_CHARS_MAX and pattern.isprintable()
    if not good or "/" in pattern or pattern in (".", ".."):
        yield Fault(
            key,
            f'"{pattern}"' if pattern.isprintable() else ascii(pattern),
            f"1 to {STREAM_NAME_CHARS_MAX} printable characters without / (not . or ..)",
        )


def _less_than(key: str, value: float, other: str, bound: float) -> Fault:
    return Fault(key, f"{value}", f"at least {other} ({bound})")


def _more_than(key: str, value: float, other: str, bound: float) -> Fault:
    return Fault(key, f"{value}", f"at most {other} ({bound})")

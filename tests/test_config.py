"""The configuration: defaults without a file, all faults in one round, and checks across keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from streamer.config import (
    BatchConfig,
    Config,
    DaemonConfig,
    LogConfig,
    SessionConfig,
    StreamsConfig,
    matches,
)
from streamer.config_load import load_config, parse_toml, structure_config
from streamer.errors import ConfigError
from streamer.limits import MIB, BatchLimits, WireLimits
from streamer.pipeline.deliver import DeliverPlugin
from streamer.pipeline.registry import Registry
from streamer.pipeline.stage import StagePlugin
from streamer.settings import describe, setting


@attrs.frozen
class GroupSettings:
    linger_s: float = setting(0.005, "how long to wait", unit="s", min=0, max=10)
    bytes_max: int = setting(524288, "how much", unit="bytes", min=1024, max=MIB)


@attrs.frozen
class LogSettings:
    fsync: Literal["group", "interval", "never"] = setting("group", "when to sync")


@attrs.frozen
class NoSettings:
    pass


def plugin(name: str, place: str, settings: type) -> StagePlugin:
    return StagePlugin(name, place, settings, lambda config, context: None)  # type: ignore[arg-type]


STAGES = (
    plugin("group", "ingest", GroupSettings),
    plugin("local", "propose", NoSettings),
    plugin("log", "persist", LogSettings),
    plugin("session", "ack", NoSettings),
    DeliverPlugin("groups", NoSettings, lambda config, context: None),  # type: ignore[arg-type, return-value]
)


@pytest.fixture
def registry() -> Registry:
    return Registry({}).with_stages(*STAGES)


def make(text: str, registry: Registry, **options: Any) -> Config:
    return structure_config(parse_toml(text.encode(), "f"), registry, "f", options)


def faults(text: str, registry: Registry, **options: Any) -> Sequence[str]:
    with pytest.raises(ConfigError) as caught:
        make(text, registry, **options)
    return caught.value.faults


# ------------------------------------------------------------------------------------- defaults


def test_without_a_file_there_is_one_pipeline_for_everything(registry: Registry) -> None:
    config = load_config(None, registry)
    assert config.daemon == DaemonConfig()
    assert config.daemon.listen == ("ws://127.0.0.1:4440",)
    assert config.daemon.http == "127.0.0.1:4441"
    assert (config.log, config.session) == (LogConfig(), SessionConfig())
    assert (config.batch, config.streams) == (BatchConfig(), StreamsConfig())
    [pipeline] = config.pipelines
    assert pipeline.streams == ("*",)
    assert [stage.stage for stage in pipeline.stages.values()] == [
        "group",
        "local",
        "log",
        "session",
    ]
    assert pipeline.ingest.settings == GroupSettings()
    assert config.pipeline_of("anything") is pipeline


def test_what_a_file_leaves_out_is_as_without_one(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[daemon]\ndata = "x"\n')
    default, config = load_config(None, registry), load_config(str(file), registry)
    assert config == attrs.evolve(default, daemon=DaemonConfig(data="x"))
    assert make("[[pipelines]]", registry) == default
    assert make("[[pipelines]]\n[pipelines.ingest]", registry) == default


def test_a_stage_has_its_own_settings_beside_its_channel(registry: Registry) -> None:
    config = make(
        """
        [[pipelines]]
        [pipelines.ingest]
        linger_s = 0
        channel = {items = 5}
        [pipelines.persist]
        stage = "log"
        fsync = "never"
        [pipelines.persist.channel]
        bytes = "1 MiB"
        """,
        registry,
    )
    [pipeline] = config.pipelines
    assert pipeline.ingest.settings == GroupSettings(linger_s=0.0)
    assert pipeline.ingest.channel.items == 5
    assert pipeline.persist.settings == LogSettings("never")
    assert (pipeline.persist.channel.items, pipeline.persist.channel.bytes) == (1024, MIB)


def test_the_limits_that_others_want(registry: Registry) -> None:
    config = load_config(None, registry)
    assert config.batch.limits == BatchLimits()
    assert config.session.wire_limits == WireLimits()
    names = {field.name for field in attrs.fields(BatchConfig)}
    assert names == {field.name for field in attrs.fields(BatchLimits)} | {"zstd_level"}


def test_every_setting_has_help_and_every_number_has_bounds() -> None:
    for one in describe(Config):
        if one.key.split(".")[-1] in ("stage", "settings") or "channel" in one.key:
            continue
        assert one.setting.help, one.key
        if one.type in (int, float):
            assert one.setting.min is not None, one.key
            assert one.setting.max is not None, one.key


# -------------------------------------------------------------------------------------- streams


def test_the_first_override_that_matches_counts(registry: Registry) -> None:
    streams = make(
        """
        [streams]
        partitions = 2
        retention_s = 60
        [[streams.override]]
        streams = ["audit-*", "bills"]
        retention_s = 0
        retention_groups = ["archive"]
        [[streams.override]]
        streams = ["audit-login"]
        partitions = 9
        """,
        registry,
    ).streams
    assert (streams.of("other").partitions, streams.of("other").retention_s) == (2, 60.0)
    audit = streams.of("audit-login")
    assert (audit.partitions, audit.retention_s, audit.retention_groups) == (2, 0.0, ("archive",))
    assert streams.of("bills") == audit


def test_the_first_pipeline_that_matches_serves(registry: Registry) -> None:
    config = make(
        """
        [[pipelines]]
        name = "a"
        streams = ["logs-*", "x"]
        [[pipelines]]
        name = "b"
        streams = ["other", "y?"]
        """,
        registry,
    )
    served = {name: config.pipeline_of(name) for name in ("logs-1", "x", "y1", "y12", "LOGS-1")}
    assert {name: found and found.name for name, found in served.items()} == {
        "logs-1": "a",
        "x": "a",
        "y1": "b",
        "y12": None,
        "LOGS-1": None,
    }
    assert matches("a[1]", ["a[[]1]"])


# ----------------------------------------------------------------------------------- all faults


def test_every_fault_is_a_line_with_file_key_found_and_allowed(registry: Registry) -> None:
    lines = faults(
        """
        bogus = 1
        [daemon]
        drain_s = -1
        listen = ["ws://127.0.0.1:4440", "http://x", "tcp://10.0.0.1:1"]
        [session]
        handshake = 3
        [streams]
        retention_bytes = 10
        [[pipelines]]
        chanel = 3
        [pipelines.ingest]
        stage = "grupp"
        [pipelines.persist]
        fsinc = "group"
        channel = {itms = 3, bytes = "x"}
        [pipelines.ack]
        stage = "log"
        """,
        registry,
    )
    heads = {line.partition(", allowed")[0] for line in lines}
    assert heads == {
        "f: bogus: found an unknown key",
        "f: daemon.drain_s: found -1",
        "f: session.handshake: found an unknown key",
        "f: pipelines[0].chanel: found an unknown key",
        'f: pipelines[0].ingest.stage: found stage "grupp"',
        "f: pipelines[0].persist.fsinc: found an unknown key",
        "f: pipelines[0].persist.channel.itms: found an unknown key",
        'f: pipelines[0].persist.channel.bytes: found "x"',
        'f: pipelines[0].ack.stage: found stage "log", which is for persist',
        'f: daemon.listen[1]: found "http://x" (no such form of address)',
        'f: daemon.listen[2]: found "tcp://10.0.0.1:1"',
        "f: streams.retention_bytes: found 10",
    }
    hints = [line.rpartition("(did you mean ")[2].rstrip("?)") for line in lines if "mean" in line]
    assert sorted(hints) == ["fsync", "group", "handshake_s", "items"]


def test_a_fault_of_one_key_does_not_bring_up_others(registry: Registry) -> None:
    assert faults('[session]\nwindow_bytes = "x"\nbudget_bytes = "1 MiB"', registry) == [
        'f: session.window_bytes: found "x", allowed a whole number of bytes or a size as "4 MiB" '
        "from 64 KiB to 1 GiB"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("daemon = 3", "f: daemon: found 3, allowed a table"),
        ("pipelines = {}", "f: pipelines: found a table, allowed a list"),
        ("pipelines = [3]", "f: pipelines[0]: found 3, allowed a table"),
        ("pipelines = [{ingest = 3}]", "f: pipelines[0].ingest: found 3, allowed a table"),
        (
            "pipelines = [{ingest = {stage = 3}}]",
            "f: pipelines[0].ingest.stage: found 3, allowed the name of a stage, as text",
        ),
        ("pipelines = []", "f: pipelines: found an empty list, allowed at least one pipeline"),
        ("a = ", "f: line 1 column 5: found a fault (Invalid value), allowed TOML"),
    ],
)
def test_the_wrong_shape(registry: Registry, text: str, line: str) -> None:
    assert faults(f"{text}\n", registry) == [line]


def test_files_that_cannot_be_read(registry: Registry, tmp_path: Path) -> None:
    def line(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(str(path), registry)
        [fault] = caught.value.faults
        return fault.removeprefix(f"{path}:").strip()

    bad, large = tmp_path / "bad.toml", tmp_path / "large.toml"
    bad.write_bytes(b"a = 1\nb = '\xff'\n")
    large.write_bytes(b"#" * (4 * MIB + 1))
    assert line(tmp_path / "none.toml") == (
        "found no such file or directory, allowed a readable TOML file"
    )
    assert line(tmp_path) == "found is a directory, allowed a readable TOML file"
    assert line(bad) == "line 2: found byte 0xff, allowed UTF-8"
    assert line(large) == f"found more than {4 * MIB} bytes, allowed at most that many"


# --------------------------------------------------------------------------------- command line


def test_the_command_line_takes_the_place_of_the_file(registry: Registry) -> None:
    text = '[daemon]\ndata = "a"\nlisten = ["bad"]\n'
    config = make(text, registry, data=None, listen=["tcp://127.0.0.1:0"], http="")
    assert config.daemon == DaemonConfig(data="a", listen=("tcp://127.0.0.1:0",), http="")


def test_a_fault_of_the_command_line_names_the_option(registry: Registry) -> None:
    assert faults("", registry, listen=["bad"], http="x") == [
        '--listen: found "bad" (no such form of address), allowed ws://HOST:PORT, '
        "tcp://HOST:PORT or unix:PATH",
        '--http: found "x" (the port is missing), allowed HOST:PORT, or "" for none',
    ]


# --------------------------------------------------------------------------------- cross-checks


@pytest.mark.parametrize("url", ["ws://0.0.0.0:1", "tcp://[::]:1", "ws://example.org:1"])
def test_other_machines_only_when_allowed(registry: Registry, url: str) -> None:
    [line] = faults(f'[daemon]\nlisten = ["{url}"]', registry)
    assert line.startswith(f'f: daemon.listen[0]: found "{url}", allowed a loopback address')
    assert "TLS and tokens, which are not there yet" in line
    assert make(f'[daemon]\nlisten = ["{url}"]\nallow_remote = true', registry)


def test_http_for_other_machines_only_when_allowed(registry: Registry) -> None:
    [line] = faults('[daemon]\nhttp = "0.0.0.0:1"', registry)
    assert line.startswith('f: daemon.http: found "0.0.0.0:1", allowed a loopback address')
    assert make('[daemon]\nhttp = "0.0.0.0:1"\nallow_remote = true', registry)


@pytest.mark.parametrize(
    ("listen", "http", "key"),
    [
        (["ws://127.0.0.1:5", "tcp://127.0.0.1:5"], "", "daemon.listen[1]"),
        (["ws://127.0.0.1:5", "tcp://localhost:5"], "", "daemon.listen[1]"),
        (["ws://127.0.0.1:5"], "127.0.0.1:5", "daemon.http"),
        (["ws://0.0.0.0:5"], "127.0.0.1:5", "daemon.http"),
        (["unix:a", "unix:a"], "", "daemon.listen[1]"),
    ],
)
def test_two_cannot_listen_at_one_place(
    registry: Registry, listen: list[str], http: str, key: str
) -> None:
    text = f'[daemon]\nlisten = {listen}\nhttp = "{http}"\nallow_remote = true'
    [line] = faults(text, registry)
    assert line.startswith(f"f: {key}: found ")
    assert "that daemon.listen[0] does not have" in line


def test_places_that_differ_do_not_clash(registry: Registry) -> None:
    assert make(
        '[daemon]\nlisten = ["ws://127.0.0.1:0", "ws://127.0.0.1:0", "ws://[::1]:5", '
        '"ws://127.0.0.1:5", "unix:a", "unix:b"]\nhttp = "127.0.0.1:6"',
        registry,
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[daemon]\nlisten = []", "daemon.listen: found an empty list, allowed at least one of "
         "ws://HOST:PORT, tcp://HOST:PORT or unix:PATH"),
        ('[daemon]\ndata = ""', 'daemon.data: found "", allowed the path of a directory'),
        ('[daemon]\norigins = ["example.org"]', 'daemon.origins[0]: found "example.org", allowed '
         "an origin as a browser sends it: https://HOST or https://HOST:PORT"),
        ("[session]\nsessions = 5\nsessions_per_address = 6",
         "session.sessions_per_address: found 6, allowed at most session.sessions (5)"),
        ('[session]\nbudget_bytes = "1 MiB"', "session.budget_bytes: found 1048576, allowed at "
         "least session.window_bytes (4194304)"),
        ('[session]\nsend_queue_bytes = "64 KiB"', "session.send_queue_bytes: found 65536, allowed "
         "at least session.frame_bytes (1114112)"),
        ('[session]\nframe_bytes = "1 MiB"', "session.frame_bytes: found 1048576, allowed at least "
         "1052672: batch.batch_bytes and 4096 for the envelope"),
        ('[batch]\nraw_bytes = "1 MiB"\nvalue_bytes = "2 MiB"',
         "batch.value_bytes: found 2097152, allowed at most batch.raw_bytes (1048576)"),
        ('[streams]\nsegment_bytes = "512 KiB"',
         "streams.segment_bytes: found 524288, allowed at least batch.batch_bytes (1048576)"),
        ('[streams]\nsegment_bytes = "2 MiB"\nindex_bytes = "4 MiB"',
         "streams.index_bytes: found 4194304, allowed at most streams.segment_bytes (2097152)"),
        ('[[streams.override]]\nstreams = ["x"]\nretention_bytes = 1',
         "streams.override[0].retention_bytes: found 1, allowed 0 for none, or at least "
         "streams.override[0].segment_bytes (67108864): only whole segments are dropped"),
        ('[streams]\nstorage = "memory"\nretention_groups = ["g"]',
         'streams.retention_groups: found [\'g\'], allowed [] where storage is "memory": what is '
         "above memory_bytes is dropped, whoever still needs it"),
        ('[streams]\nretention_groups = ["g"]\n[[streams.override]]\nstreams = ["x"]\n'
         'storage = "memory"',
         'streams.override[0].retention_groups: found [\'g\'], allowed [] where storage is '
         '"memory": what is above memory_bytes is dropped, whoever still needs it'),
        ('[streams]\nstorage = "tape"',
         'streams.storage: found "tape", allowed "disk" or "memory"'),
        ("[[streams.override]]\npartitions = 2",
         "streams.override[0].streams: found nothing, allowed at least one name or glob of a "
         "stream"),
        ('[[streams.override]]\nstreams = ["a/b"]',
         'streams.override[0].streams[0]: found "a/b", allowed 1 to 200 printable characters '
         "without / (not . or ..)"),
        ('[[streams.override]]\nstreams = ["lost"]\n[[pipelines]]\nstreams = ["a*"]',
         'streams.override[0].streams[0]: found stream "lost", which no pipeline serves, allowed '
         "a stream that matches the `streams` of a pipeline"),
        ("[[pipelines]]\nstreams = []",
         "pipelines[0].streams: found an empty list, allowed at least one name or glob of a "
         "stream"),
        ('[[pipelines]]\nname = ""',
         'pipelines[0].name: found "", allowed 1 to 100 printable characters'),
        ("[[pipelines]]\nbackoff_s = 5\nbackoff_max_s = 1",
         "pipelines[0].backoff_max_s: found 1.0, allowed at least pipelines[0].backoff_s (5.0)"),
        ('[[pipelines]]\nname = "a"\nstreams = ["a"]\n[[pipelines]]\nname = "a"',
         'pipelines[1].name: found "a", allowed a name that pipelines[0] does not have'),
        ('[[pipelines]]\nname = "a"\n[[pipelines]]\nstreams = ["b"]',
         'pipelines[1].streams[0]: found "b", all of which pipelines[0] serves already, allowed '
         "streams that no pipeline before it serves"),
        ('[[pipelines]]\nname = "a"\nstreams = ["a-?"]\n[[pipelines]]\nstreams = ["a-1", "a*"]',
         'pipelines[1].streams[0]: found "a-1", all of which pipelines[0] serves already, allowed '
         "streams that no pipeline before it serves"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(registry: Registry, text: str, line: str) -> None:
    assert faults(text, registry) == [f"f: {line}"]


def test_what_an_override_is_told_twice_is_said_once(registry: Registry) -> None:
    text = '[streams]\nsegment_bytes = "64 KiB"\n[[streams.override]]\nstreams = ["x"]\nproducers=5'
    assert [line.split(":")[1] for line in faults(text, registry)] == [" streams.segment_bytes"]

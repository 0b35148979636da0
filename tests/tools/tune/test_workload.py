"""Workload files: what one says, all that is wrong with one that is none, and its values."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer_tools.tune.workload import ClientSettings, Workload, load, make_pool

MIB = 1 << 20


def faults(path: Path | None, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None if path is None else str(path), options)
    return caught.value.faults


def test_without_a_file_the_options_say_it() -> None:
    assert load(None, {"mode": None, "rate": None}) == Workload()
    assert load(None, {"mode": "batch", "rate": 5.0}) == Workload(mode="batch", rate=5.0)


def test_a_file_and_options_in_place_of_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text(
        'mode = "batch"\nvalue_bytes = "1 KiB"\nproducers = 3\n[client]\nin_flight = 4\n'
    )
    assert load(str(file), {"producers": 5}) == Workload(
        mode="batch", value_bytes=1024, producers=5, client=ClientSettings(in_flight=4)
    )


def test_all_faults_at_once_with_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text(
        'mode = "batches"\nrate = "fast"\nproducer = 3\n[client]\nin_flight = 65\nlevel = 3\n'
    )
    found = faults(file)
    assert len(found) == 5
    text = "\n".join(found)
    assert f'{file}: mode: found "batches", allowed "single" or "batch"' in text
    assert f'{file}: rate: found "fast", allowed a number (records/s) from 0' in text
    assert f"{file}: producer: found an unknown key, allowed mode, value_bytes, sample" in text
    assert "(did you mean producers?)" in text
    assert f"{file}: client.in_flight: found 65, allowed a whole number (requests) from 1" in text
    assert f"{file}: client.level: found an unknown key, allowed batch_records" in text


def test_a_configuration_is_no_workload(tmp_path: Path) -> None:
    file = tmp_path / "streamer.toml"
    file.write_text("[daemon]\ndrain_s = 1\n")
    [fault] = faults(file)
    assert "daemon: found an unknown key, allowed mode, value_bytes" in fault


def test_files_that_are_not_even_toml(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    assert faults(file) == [
        f"{file}: found no such file or directory, allowed a readable TOML file"
    ]
    file.write_text("mode single")
    assert "allowed TOML" in faults(file)[0]
    file.write_bytes(b"\xff\xfe")
    assert "allowed UTF-8" in faults(file)[0]
    file.write_bytes(b"#" * (MIB + 1))
    assert "found more than 1048576 bytes" in faults(file)[0]


def test_faults_of_options_name_the_option() -> None:
    [fault] = faults(None, producers=0)
    assert fault == "--producers: found 0, allowed a whole number (connections) from 1 to 10000"
    [fault] = faults(None, mode="batch", tasks=2)
    assert fault == '--tasks: found 2 in mode "batch", allowed it in mode "single" only'


def test_real_values_start_at_the_workload_file(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(b"one\n\nthree\r\nfour")
    file = tmp_path / "w.toml"
    file.write_text('sample = "values"\n')
    workload = load(str(file), {})
    pool, warning = make_pool(workload, MIB)
    assert pool[:5] == [b"one", b"", b"three\r", b"four", b"one"]
    assert len(pool) >= 20_000
    assert "has 4 values, which are sent again and again" in warning
    [fault] = faults(file, value_bytes=3)
    assert "--value-bytes: found it beside a sample, allowed one of the two" in fault


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "found no such file or directory, allowed a readable file of values"),
        (b"", "found no values, allowed at least one line that is not empty"),
        (b"\n\n", "found no values, allowed at least one line that is not empty"),
        (b"x\n" + b"y" * 11 + b"\n", "line 2: found 11 bytes, allowed at most batch.value_bytes"),
    ],
)
def test_samples_that_are_none(tmp_path: Path, content: bytes | None, fault: str) -> None:
    file = tmp_path / "values"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        make_pool(Workload(sample=str(file)), 10)
    assert fault in caught.value.faults[0]


def test_values_that_are_made_up_are_more_than_any_batch() -> None:
    pool, warning = make_pool(Workload(client=ClientSettings(batch_records=65_536)), MIB)
    assert len(pool) > 65_536
    assert all(len(value) in range(95, 101) for value in pool[:100])
    assert not warning
    with pytest.raises(ConfigError, match="found 100, allowed at most batch"):
        make_pool(Workload(), 50)


def test_in_one_line() -> None:
    assert Workload().described() == (
        "records one by one, 100-byte values, 8 producers, as many as are acked"
    )
    assert Workload(mode="batch", sample="x", rate=5000.0, readers=2).described() == (
        "records in batches, values of x, 8 producers, 5,000 records/s, 2 readers"
    )

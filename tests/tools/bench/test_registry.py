"""Benchmarks by name: of our own package and of others, imported when they are named."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamer_tools.bench import command
from streamer_tools.bench.contract import GROUP
from streamer_tools.bench.registry import Benchmarks, UnknownBenchmark
from streamer_tools.main import main

#: What a package of somebody else's would hold: no daemon, two figures.
SPIN = """
    from contextlib import asynccontextmanager

    import attrs
    from streamer import setting
    from streamer_tools.bench.contract import Benchmark

    @attrs.frozen
    class SpinSettings:
        turns: int = setting(10, "how often it turns", min=1, max=1000)
        pause_s: float = setting(0.25, "between turns", unit="s", min=0.0)
        fast: bool = setting(False, "turn faster")

    done = []

    @asynccontextmanager
    async def open_spin(settings, target):
        done.append("set up")

        async def run():
            done.append("run")
            return {"turns_per_s": settings.turns / 2, "inside": {"pause_s": settings.pause_s}}

        yield run
        done.append("clean up")

    BENCHMARK = Benchmark("bench_test_spin", "Turns.", SpinSettings, open_spin, daemon=False)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Install a package that offers a benchmark: a module, and what pip would write."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(module: str, source: str, entry_points: str) -> None:
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def test_a_benchmark_of_another_package_is_listed_and_run(
    package: Callable[[str, str, str], None],
) -> None:
    package("bench_test_good", SPIN, "bench_test_spin = bench_test_good:BENCHMARK")
    for arguments in (["bench", "--help"], ["bench", "list"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert "bench_test_spin" in result.stdout
        assert "From the package bench_test_good" in result.stdout
    assert "bench_test_good" not in sys.modules
    arguments = ["bench", "bench_test_spin", "--turns", "8", "--pause", "2m", "--repeats", "2"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["workload"] == "bench_test_spin"
    assert document["settings"] == {"turns": 8, "pause_s": 120, "fast": False, "repeats": 2}
    assert document["median"] == {"turns_per_s": 4, "inside": {"pause_s": 120}}
    assert document["spread"]["turns_per_s"] == {"min": 4, "max": 4, "mad": 0}
    assert "bench_test_spin: turns_per_s 4" in result.stderr
    assert sys.modules["bench_test_good"].done == ["set up", "run", "clean up"] * 3, "a warm-up"


def test_its_options_are_those_of_its_settings(package: Callable[[str, str, str], None]) -> None:
    package("bench_test_help", SPIN, "bench_test_spin = bench_test_help:BENCHMARK")
    result = CliRunner().invoke(main, ["bench", "bench_test_spin", "--help"])
    for shown in ("How often it turns.", "1<=x<=1000", "--pause TIME", "[default: 250ms]",
                  "--fast / --no-fast", "Turns.", "--against"):  # fmt: skip
        assert shown in result.stdout
    assert "--url" not in result.stdout, "it needs no daemon"
    for arguments in (["--turns", "0"], ["--pause", "-1s"], ["--pause", "soon"], ["--speed", "1"]):
        result = CliRunner().invoke(main, ["bench", "bench_test_spin", *arguments])
        assert result.exit_code == 2


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("raise RuntimeError('boom')", "bench_test_bad:BENCHMARK fails with RuntimeError: boom"),
        ("BENCHMARK = 3", "bench_test_bad:BENCHMARK is no Benchmark"),
    ],
)
def test_one_that_cannot_be_imported_is_named_and_hurts_nobody(
    package: Callable[[str, str, str], None], source: str, named: str
) -> None:
    package("bench_test_bad", source, "bench_test_boom = bench_test_bad:BENCHMARK")
    assert "bench_test_boom" in CliRunner().invoke(main, ["bench", "list"]).stdout
    result = CliRunner().invoke(main, ["bench", "bench_test_boom"])
    assert result.exit_code == 1
    assert f'streamer: benchmark "bench_test_boom": {named}' in result.stderr


def test_two_packages_with_one_name_are_refused(package: Callable[[str, str, str], None]) -> None:
    package("bench_test_one", SPIN, "bench_test_twice = bench_test_one:BENCHMARK")
    package("bench_test_two", SPIN, "bench_test_twice = bench_test_two:BENCHMARK")
    with pytest.raises(UnknownBenchmark, match="more than one package: bench_test_one:BENCHMARK"):
        Benchmarks.installed().get("bench_test_twice")


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(UnknownBenchmark, match=r'"produse", there are .*did you mean produce\?'):
        Benchmarks.installed().get("produse")
    assert CliRunner().invoke(main, ["bench", "produse"]).exit_code == 2
    with pytest.raises(UnknownBenchmark, match="there are none"):
        Benchmarks({}).get("produce")


def test_our_own_are_what_the_list_says() -> None:
    benchmarks = Benchmarks.installed()
    for name, help_text in command.OURS.items():
        benchmark = benchmarks.get(name)
        assert (benchmark.name, benchmark.help) == (name, help_text)
        assert benchmarks.entry(name).package == "streamer"
    ours = [name for name in benchmarks.names if benchmarks.entry(name).package == "streamer"]
    assert set(ours) == set(command.OURS)


def test_a_benchmark_that_is_passed_in_takes_the_place_of_another() -> None:
    benchmarks = Benchmarks.installed()
    other = benchmarks.get("limits")
    assert benchmarks.with_benchmarks(other).get("limits") is other
    assert Benchmarks({}).with_benchmarks(other).names == ["limits"]
    listed = CliRunner().invoke(
        command.command, ["list", "--json"], obj=Benchmarks({}).with_benchmarks(other)
    )
    assert [row["name"] for row in json.loads(listed.stdout)] == ["limits"]


def test_help_and_list_import_no_benchmark() -> None:
    code = (
        "import sys; from streamer_tools.main import main\n"
        "for arguments in (['bench', '--help'], ['bench', 'list']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('streamer_tools.bench.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout.splitlines()[-1].replace("'", '"')))
    allowed = {"command", "registry", "contract"}
    assert loaded <= {f"streamer_tools.bench.{name}" for name in allowed}


def test_every_benchmark_says_what_it_does_and_has_options_with_help() -> None:
    for name in command.OURS:
        result = CliRunner().invoke(main, ["bench", name, "--help"])
        assert result.exit_code == 0, result.output
        assert command.OURS[name].split()[0] in result.stdout
        assert "--repeats" in result.stdout

"""The registry: named, not discovered; imported when asked for; clear when it cannot."""

from __future__ import annotations

import importlib.metadata
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from streamer.pipeline.registry import GROUP, PLACES, Registry, UnknownStage
from streamer.pipeline.stage import StagePlugin


@attrs.frozen
class NoSettings:
    pass


def plugin(name: str, place: str = "ingest") -> StagePlugin:
    def factory(config: object, context: object, /) -> object:
        raise AssertionError("never made")

    return StagePlugin(name, place, NoSettings, factory)  # type: ignore[arg-type]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Install a package that offers a stage: a module, and the metadata that pip would write."""
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


GOOD = """
    import attrs
    from streamer.pipeline.stage import StagePlugin

    @attrs.frozen
    class NoSettings:
        pass

    STAGE = StagePlugin("reg_test_shout", "ingest", NoSettings, lambda config, context: None)
"""


def test_a_stage_by_its_name() -> None:
    group = plugin("group")
    registry = Registry({}).with_stages(group, plugin("log", "persist"))
    assert registry.get("ingest", "group") is group
    assert registry.names == ["group", "log"]


def test_with_and_without_leave_the_registry_as_it_was() -> None:
    old = Registry({}).with_stages(plugin("group"))
    other = plugin("group")
    new = old.with_stages(other)
    assert new.get("ingest", "group") is other
    assert old.get("ingest", "group") is not other
    assert old.without("group", "never").names == []
    assert old.names == ["group"]


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    registry = Registry({}).with_stages(plugin("group"), plugin("log", "persist"))
    with pytest.raises(UnknownStage) as caught:
        registry.get("ingest", "grupp")
    assert str(caught.value) == (
        'found stage "grupp", allowed one of the installed stages "group", "log" '
        "(did you mean group?)"
    )
    with pytest.raises(UnknownStage, match=r"installed stages \(none\)"):
        Registry({}).get("ingest", "grupp")


def test_a_stage_stands_only_in_its_place() -> None:
    registry = Registry({}).with_stages(plugin("log", "persist"))
    with pytest.raises(UnknownStage, match='stage "log", which is for persist, allowed a stage f'):
        registry.get("ingest", "log")
    with pytest.raises(AssertionError):
        registry.get("nowhere", "log")


def test_an_installed_stage_is_imported_when_asked_for(
    package: Callable[[str, str, str], None],
) -> None:
    package("reg_test_good", GOOD, "reg_test_shout = reg_test_good:STAGE")
    registry = Registry.installed()
    assert "reg_test_shout" in registry.names
    assert "reg_test_good" not in sys.modules
    assert registry.get("ingest", "reg_test_shout").name == "reg_test_shout"
    assert "reg_test_good" in sys.modules


def test_a_stage_that_nobody_names_may_be_broken(
    package: Callable[[str, str, str], None],
) -> None:
    package("reg_test_bad", "raise RuntimeError('boom')", "reg_test_boom = reg_test_bad:STAGE")
    registry = Registry.installed()
    with pytest.raises(
        UnknownStage,
        match=r'"reg_test_boom", but reg_test_bad:STAGE fails with '
        r"RuntimeError: boom, allowed a stage that can be imp",
    ):
        registry.get("ingest", "reg_test_boom")


def test_an_entry_point_must_name_a_plugin(package: Callable[[str, str, str], None]) -> None:
    package("reg_test_odd", "STAGE = 3", "reg_test_three = reg_test_odd:STAGE")
    with pytest.raises(UnknownStage, match="reg_test_odd:STAGE is no StagePlugin"):
        Registry.installed().get("ingest", "reg_test_three")


def test_two_packages_with_one_name_are_refused(
    package: Callable[[str, str, str], None],
) -> None:
    package("reg_test_one", GOOD, "reg_test_twice = reg_test_one:STAGE")
    package("reg_test_two", GOOD, "reg_test_twice = reg_test_two:STAGE")
    with pytest.raises(UnknownStage, match="more than one package: reg_test_one:STAGE, reg_test_t"):
        Registry.installed().get("ingest", "reg_test_twice")


def test_our_own_stages_are_installed_and_in_their_places() -> None:
    registry = Registry.installed()
    for place, name in zip(PLACES, ["group", "local", "log", "session"], strict=True):
        assert registry.get(place, name).place == place


def test_installed_reads_metadata_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_load(self: object) -> object:
        raise AssertionError("imported without being asked for")

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", no_load)
    assert Registry.installed().names

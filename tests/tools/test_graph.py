"""The graph of pipelines: what is in it, and that its drawings fit and can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from streamer_tools.graph import model, page, text
from streamer_tools.main import main
from tests.tools.top import documents

if TYPE_CHECKING:
    from conftest import ScriptedDaemon

CONFIGS = Path(__file__).parents[2] / "configs"


def hostile() -> dict[str, Any]:
    """A daemon whose clients chose the worst of names."""
    name = documents.HOSTILE
    return documents.overview(
        pipelines=[documents.pipeline(name, streams=[name, "<&>\"'"])],
        streams=[documents.stream(name, pipeline=name)],
        groups=[documents.group(name, name)],
    )


def lines(document: dict[str, Any]) -> list[str]:
    return [line.plain for line in text.draw(model.of_overview(document))]


def texts(drawing: str) -> list[str]:
    """What stands in an SVG; it must be well-formed."""
    root = ElementTree.fromstring(drawing)
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_streams_with_groups_come_first_and_companions_stand_with_their_stream() -> None:
    default, bulk, audit = model.of_overview(documents.overview())
    assert [stream.name for stream in default.streams] == ["orders", "mails", "presence"]
    orders = default.streams[0]
    assert orders.dead == 3
    assert orders.delayed is None
    assert [group.name for group in orders.groups] == [
        "billing", "search-index", "warehouse-replication-europe",
    ]  # fmt: skip
    assert orders.groups[1].mode == "by key"
    assert bulk.streams == ()
    assert audit.state == "restarting"


def test_the_text_tells_limits_fill_groups_and_dead_letters() -> None:
    drawn = lines(documents.overview())
    assert max(map(cell_len, drawn)) <= text.WIDTH
    whole = "\n".join(drawn)
    for expected in (
        "pipeline default  running", "streams orders-*, *", "307/1,024 items", "30%",
        "queue p99 1.2ms", "├─► group billing", "lag  1.23M", "oldest 67m", "paused",
        "dead letters", "3 records", "audit  restarting", "(stopped)", "no streams yet",
    ):  # fmt: skip
        assert expected in whole, expected


@pytest.mark.parametrize(
    "document",
    [{}, {"pipelines": None}, {"pipelines": [{}]}, {"pipelines": [{"stages": [{}]}]},
     {"pipelines": [{"name": 5, "streams": 3, "stages": [7], "rates": 1, "append": "x"}],
      "streams": [{}, {"name": "s", "pipeline": 5}], "groups": [{}]}],
)  # fmt: skip
def test_what_is_missing_of_a_document_is_left_out(document: dict[str, Any]) -> None:
    assert max(map(cell_len, lines(document))) <= text.WIDTH
    assert texts(page.draw(model.of_overview(document), "t"))


def test_names_cannot_act_on_a_terminal_or_break_the_page() -> None:
    drawn = lines(hostile())
    assert max(map(cell_len, drawn)) <= text.WIDTH
    assert all(line.isprintable() for line in drawn)
    shown = texts(page.draw(model.of_overview(hostile()), documents.HOSTILE))
    assert all(each.isprintable() for each in shown)
    assert any("<&>\"'" in each for each in shown)


def test_long_lists_are_cut_and_say_so() -> None:
    streams = [documents.stream(f"s{number:03}") for number in range(200)]
    groups = [documents.group("s007", f"g{number:03}") for number in range(100)]
    document = documents.overview(
        pipelines=[documents.pipeline("default")], streams=streams, groups=groups
    )
    drawn = "\n".join(lines(document))
    assert "180 more streams" in drawn
    assert "88 more groups" in drawn
    shown = " ".join(texts(page.draw(model.of_overview(document), "t")))
    assert "150 more streams" in shown
    assert "50 more groups" in shown


def test_the_page_needs_nothing_else_and_follows_the_scheme() -> None:
    drawn = page.draw(model.of_overview(documents.overview()), "streamer at ws://h:1")
    shown = texts(drawn)
    for expected in ("ingest", "307 of 1,024 items", "billing (shared)", "dead letters", "93%"):
        assert expected in shown, expected
    assert "prefers-color-scheme: dark" in drawn
    assert drawn.count("http") == drawn.count("http://www.w3.org/2000/svg")
    root = ElementTree.fromstring(drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        at = {name: float(box.attrib.get(name, 0)) for name in ("x", "y", "width", "height")}
        assert at["x"] + at["width"] <= width
        assert at["y"] + at["height"] <= height


def test_the_command_draws_what_a_daemon_tells(scripted: ScriptedDaemon, tmp_path: Path) -> None:
    scripted.answers = {"overview": documents.overview()}
    assert "group billing" in scripted("graph").stdout
    assert scripted.json("graph")["pipelines"][0]["stages"][0]["items_max"] == 1024
    for name in ("g.svg", "g.txt"):
        file = tmp_path / name
        assert scripted("graph", "-o", str(file)).stdout == f"{file}: 3 pipelines\n"
        assert "billing" in file.read_text()
    result = scripted("graph", "-o", str(tmp_path / "none" / "g.svg"), status=74)
    assert "No such file or directory" in result.stderr


def test_an_older_daemon_is_told_apart(scripted: ScriptedDaemon) -> None:
    def unknown(_: dict[str, Any]) -> Any:
        from streamer.errors import BadRequest

        raise BadRequest("unknown admin verb 'overview', known are ['streams']")

    scripted.answers = {"overview": unknown}
    assert "does not know 'overview'" in scripted("graph", status=76).stderr


def test_a_configuration_is_drawn_without_a_daemon() -> None:
    result = CliRunner().invoke(main, ["graph", "--config", str(CONFIGS / "durable.toml")])
    assert result.exit_code == 0
    for expected in ("pipeline bulk", "streams bulk-*", "1,024 items", "8M bytes", "ingest"):
        assert expected in result.stdout, expected
    assert "%" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-o", "g.png"], 2, "none of: FILE.svg, FILE.txt"),
        (["-o", "g.svg", "--json"], 2, "choose one"),
        (["--config", "/nowhere.toml"], 78, "/nowhere.toml"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(arguments: list[str], status: int, said: str) -> None:
    result = CliRunner().invoke(main, ["graph", *arguments])
    assert result.exit_code == status
    assert said in result.stderr


def test_json_of_a_configuration_is_the_same_shape() -> None:
    file = str(CONFIGS / "durable.toml")
    result = CliRunner().invoke(main, ["graph", "--config", file, "--json"])
    found = json.loads(result.stdout)["pipelines"]
    assert [each["name"] for each in found] == ["bulk", "default"]
    assert found[0]["stages"][0]["items"] is None

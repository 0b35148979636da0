"""The shipped dashboard and alerts against the metrics of a running daemon, and by promtool.

A name or a label that is not there makes a panel that is empty and an alert that never fires, and
nobody notices. So a daemon is started, given traffic of every kind, and everything that the two
files name must be in its /metrics.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

import streamer
from streamer.errors import UnknownStream
from streamer_tools.own_daemon import own_daemon
from tests.configs.promql import named_in

CONFIGS = Path(__file__).parents[2] / "configs"
ALERTS = CONFIGS / "prometheus-alerts.yml"
ALERTS_TEST = Path(__file__).parent / "alerts_test.yml"
DASHBOARD = json.loads((CONFIGS / "grafana.json").read_text())
#: What Prometheus adds to every series, and the one series that it makes by itself.
TARGET_LABELS = {"job", "instance"}
UP = "up"
TIMEOUT_S = 60
CONFIG = """
[sla]
latency_p99_s = 1.0
throughput_min = 1
error_rate_max = 0.5
availability_min = 0.5
lag_age_max_s = 60
"""


# ------------------------------------------------------------------------------- a real /metrics


@attrs.frozen
class Scraped:
    """What a scrape found: by name, the labels of each series."""

    text: str
    series: dict[str, list[dict[str, str]]]


async def make_traffic(url: str) -> None:
    """Something of all that is counted: appends, a group with a dead letter, an error."""
    async with streamer.connect(url) as client:
        async with client.producer("orders") as producer:
            await producer.send_batch([b"a", b"b", b"c"])
            await producer.send(b"bad", key=b"k")
        async with client.consumer("orders", group="billing") as consumer:
            left = 4
            async for message in consumer.messages():
                async with message:
                    if message.value == b"bad":
                        await message.term("no JSON")
                left -= 1
                if not left:
                    break
        with pytest.raises(UnknownStream):
            await client.stream("nosuch")


def scrape(http: str) -> Scraped:
    with urllib.request.urlopen(f"{http}/metrics", timeout=TIMEOUT_S) as answer:
        text = answer.read().decode()
    series: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(dict(sample.labels))
    return Scraped(text, series)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    config = tmp_path_factory.mktemp("config") / "sla.toml"
    config.write_text(CONFIG)
    with own_daemon(arguments=["--config", str(config)]) as daemon:
        trio.run(make_traffic, daemon.url())
        assert daemon.http is not None
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = scrape(daemon.http)
            # The disk is looked at by and by.
            if "streamer_disk_free_bytes NaN" not in found.text or time.monotonic() > deadline:
                return found


# ---------------------------------------------------------------------------- what the files say


@attrs.frozen
class Expression:
    """An expression, where it stands, and the labels that its texts show."""

    where: str
    text: str
    shown: frozenset[str] = frozenset()


def alerts() -> dict[str, str]:
    """The text of each alert of the shipped file, by its name."""
    parts = re.split(r"^ +- alert: (\w+)$", ALERTS.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def expressions_of_alerts() -> Iterator[Expression]:
    for name, text in alerts().items():
        expr = re.search(r"^ +expr: (?:\|\n)?((?:.|\n)*?)\n +(?:for|labels):", text, re.MULTILINE)
        assert expr, name
        yield Expression(name, expr[1], frozenset(re.findall(r"\$labels\.(\w+)", text)))


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions_of_dashboard() -> Iterator[Expression]:
    for panel in panels():
        for target in panel.get("targets", ()):
            shown = frozenset(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
            yield Expression(panel["title"], target["expr"], shown)
    for each in DASHBOARD["annotations"]["list"]:
        if "expr" in each:
            yield Expression(each["name"], each["expr"], frozenset({"instance"}))
    for variable in DASHBOARD["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
        if asked:
            yield Expression(variable["name"], asked[1], frozenset({asked[2]}))


EXPRESSIONS = [*expressions_of_alerts(), *expressions_of_dashboard()]


def without_variables(text: str) -> str:
    return text.replace("$__rate_interval", "5m")


# -------------------------------------------------------------------------------------- the names


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda each: each.where)
def test_every_name_and_label_is_there(expression: Expression, scraped: Scraped) -> None:
    named = named_in(expression.text)
    assert named.metrics, expression
    known = set(TARGET_LABELS)
    for metric, matchers in named.metrics:
        series = scraped.series.get(metric, [{}] if metric == UP else [])
        assert series, f"{expression.where}: there is no {metric}"
        labels = {label for each in series for label in each} | TARGET_LABELS
        assert set(matchers) <= labels, f"{expression.where}: {metric} has {sorted(labels)}"
        for label, (operator, value) in matchers.items():
            # A series that is asked for by a value must be there with it.
            values = {each.get(label) for each in series}
            assert operator != "=" or value in values, f"{metric} has {label} {sorted(values)}"
        known |= labels
    assert named.labels <= known, expression
    assert expression.shown <= known, expression


def test_the_scanner_finds_what_is_named() -> None:
    named = named_in(
        'sum by (a, b) (rate(x_total{c="d{e}", f=~"g"}[5m])) / on (h) y > 0.5 and bool_z offset 1m'
    )
    assert named.metrics[0] == ("x_total", {"c": ("=", "d{e}"), "f": ("=~", "g")})
    assert {name for name, _ in named.metrics[1:]} >= {"y", "bool_z"}
    assert named.labels == {"a", "b", "h"}


def test_codes_of_errors_that_alerts_name_are_codes_that_there_are() -> None:
    from streamer import errors

    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    known = {each.code for each in classes if issubclass(each, errors.StreamerError)}
    [codes] = re.findall(r'code=~"([\w|]+)"', alerts()["StreamerErrors"])
    assert set(codes.split("|")) <= known


# ---------------------------------------------------------------------------------- the dashboard


def test_the_dashboard_can_be_imported() -> None:
    assert (DASHBOARD["id"], DASHBOARD["uid"]) == (None, "streamer")
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) - {"__rate_interval"}
    assert used <= variables
    for panel in panels():
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
            references = [target["refId"] for target in panel["targets"]]
            assert len(references) == len(set(references))
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} and {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_every_panel_is_of_the_daemons_that_were_chosen() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            for metric, matchers in named_in(target["expr"]).metrics:
                assert set(matchers) >= TARGET_LABELS, (panel["title"], metric)


# --------------------------------------------------------------------------------------- promtool


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        said = "there is no promtool (Debian: package prometheus), so rules are not checked"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    return found


def run(*command: str, stdin: str = "") -> str:
    """What it says; it must say so with status 0."""
    result = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_promtool_takes_the_alerts(promtool: str) -> None:
    assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", str(ALERTS))


def test_each_alert_fires_as_its_example_says(promtool: str) -> None:
    tested = re.findall(r"alertname: (\w+)", ALERTS_TEST.read_text())
    # Each has a moment of quiet, and one of alarm.
    assert sorted(tested) == sorted([*alerts(), *alerts()])
    assert "SUCCESS" in run(promtool, "test", "rules", str(ALERTS_TEST))


def test_promtool_takes_what_the_dashboard_asks(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"asked:{number}", "expr": without_variables(each.text)}
        for number, each in enumerate(expressions_of_dashboard())
    ]
    # JSON is YAML.
    file = tmp_path / "asked.json"
    file.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", str(file))


def test_promtool_takes_the_metrics(promtool: str, scraped: Scraped) -> None:
    assert run(promtool, "check", "metrics", stdin=scraped.text) == ""


@pytest.mark.parametrize("name", list(alerts()))
def test_each_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    text = alerts()[name]
    assert re.search(r"severity: (critical|warning|info)$", text, re.MULTILINE)
    assert "summary: " in text
    assert "description: " in text


def test_commands_that_alerts_name_are_ours() -> None:
    from streamer_tools.main import COMMANDS

    for command in re.findall(r"`streamer ([a-z]+)", ALERTS.read_text()):
        assert command in COMMANDS

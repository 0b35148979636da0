"""The report for people: complete by itself, well-formed, and without any request."""

from __future__ import annotations

import re
from array import array
from typing import Any
from xml.etree import ElementTree

import pytest

from streamer_tools.bench import compare, page, plots, svg
from streamer_tools.bench.contract import Measurement
from streamer_tools.bench.results import figures, report

NOISE = {"sentences": ["Nothing <is> known."], "cpus": 2, "load_average": {"before": 1.0}}


def run(scale: float) -> Measurement:
    latencies = array("d", [scale * number / 1e5 for number in range(1, 2001)])
    at_s = array("d", [number / 1000 for number in range(2000)])
    return Measurement(2000, 200_000, 2.0 * scale, latencies, 0.5, 0.4, 5000, at_s=at_s)


def document(**more: Any) -> dict[str, Any]:
    runs = [run(scale) for scale in (1.0, 1.1, 1.3)]
    return report("post", {"records": 2000}, runs, noise=NOISE, **more)


def drawings(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(each) for each in re.findall(r"<svg.*?</svg>", html, re.S)]


def test_a_page_asks_nobody_for_anything() -> None:
    html = page.render(document(began="2026", versions={"streamer": "1"}))
    assert not re.search(r"<script|<link|<img|src=|@import|url\(", html)
    assert set(re.findall(r"https?://[^\"' <]+", html)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_a_page_has_plots_tables_and_what_speaks_against_them() -> None:
    found = page.render(document(conclusion=["<b>All</b> is well."], headline="post: quick"))
    labels = [drawing.get("aria-label") for drawing in drawings(found)]
    assert labels == [
        "Throughput of each repeat", "Latency by percentile, of all repeats",
        "Throughput over time (repeat 2)", "Latency over time (repeat 2)",
    ]  # fmt: skip
    for shown in ("&lt;b&gt;All&lt;/b&gt; is well.", "Nothing &lt;is&gt; known.", "post: quick",
                  "latency_ms.p99", "MAD", "before 1"):  # fmt: skip
        assert shown in found


def test_a_comparison_is_drawn_and_tabled() -> None:
    now = document()
    before = report("post", {"records": 2000}, [run(2.0), run(2.1), run(2.2)])
    now["comparison"] = compare.compare(before, now, "old<1>.json")
    found = page.render(now)
    assert "Now against old&lt;1&gt;.json" in found
    [first, *_] = drawings(found)
    shown = "".join(first.itertext())
    assert "records_per_s" in shown
    assert "latency_ms.p99" in shown
    assert "better" in shown


def test_cases_are_compared_on_one_page() -> None:
    scales = {"adaptive": 1, "a": 3, "b": 2, "c": 4, "d": 50, "e": 6}
    cases = [
        {"name": name, **figures([run(scale), run(scale * 1.2)])} for name, scale in scales.items()
    ]
    found = page.render(document() | cases[0] | {"cases": cases})
    labels = [drawing.get("aria-label") for drawing in drawings(found)]
    assert "p99 of each setting" in labels
    assert "Throughput of each setting" in labels
    assert "the others" in found, "only the nearest have colours"
    assert "Settings compared" in found


def test_figures_of_another_kind_have_a_page_as_well() -> None:
    found = page.render({
        "workload": "leases", "settings": {"leases": 5}, "median": {"redelivered_per_s": 7.0},
        "repeats": [{"redelivered_per_s": 7.0}],
    })  # fmt: skip
    assert "redelivered per s" in found
    assert drawings(found) == []


@pytest.mark.parametrize(
    ("values", "log", "ends"),
    [([3.0, 83.0], False, (0, 100)), ([0.0], False, (0, 1)), ([2.2, 6.9], True, (2, 8)),
     ([0.0], True, (1, 10)), ([9.0, 1200.0], True, (8, 1500))],
)  # fmt: skip
def test_an_axis_holds_its_values_between_round_numbers(
    values: list[float], log: bool, ends: tuple[float, float]
) -> None:
    axis = svg.Axis.over(values, 10, 110, log=log)
    assert (axis.low, axis.high) == pytest.approx(ends)
    assert axis.place(axis.low) == 10
    assert axis.place(axis.high) == pytest.approx(110)
    assert axis.place(axis.high * 9) == pytest.approx(110), "what is outside is at the edge"
    assert 2 <= len(axis.ticks()) <= 9
    assert all(axis.low * 0.99 <= tick <= axis.high * 1.01 for tick in axis.ticks())


def test_an_element_escapes_what_it_is_given() -> None:
    assert svg.element("g", svg.title("a<b"), class_='"', data_x=1.50, y=None) == (
        '<g class="&quot;" data-x="1.5"><title>a&lt;b</title></g>'
    )
    assert [svg.short(value) for value in (2_390_000, 20_000, 300, 0.25, 3e9)] == [
        "2.39M", "20k", "300", "0.25", "3G",
    ]  # fmt: skip


def test_a_gap_breaks_a_curve() -> None:
    curve = plots.Curve("x", [(0, 1), None, (1, 2), (2, 3)], "main")
    drawn = plots.over_time([curve], "ms", "x", log=True, seconds=2)
    [path] = [each for each in ElementTree.fromstring(drawn).iter() if each.tag.endswith("path")]
    assert (path.get("d") or "").count("M") == 2

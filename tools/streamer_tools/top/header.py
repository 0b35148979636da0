"""The lines around each view: what the daemon does as a whole, the views, and what keys do.

Rules: its height changes only when something is wrong (a line more, that says what) or the terminal
is resized. Figures stand in fixed places. That numbers are old is said in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from streamer_tools.show import escaped
from streamer_tools.top import figures
from streamer_tools.top.figures import styled
from streamer_tools.top.lists import sorts
from streamer_tools.top.scene import Scene, at, count, maps
from streamer_tools.top.state import VIEWS, State
from streamer_tools.top.table import aligned, clean

#: Columns from which on the header has three figures a line.
WIDE = 72
#: Lines of a terminal below which the header is as short as it can be.
TALL = 15
_CELL = 27


def header(scene: Scene, state: State, width: int, height: int) -> list[Text]:
    """Who it is, how it is, what it does; then what is wrong, if something is."""
    lines = [_ends(_daemon(scene), _us(scene, state), width)]
    lines += _wide(scene) if width >= WIDE else _narrow(scene)
    if height < TALL:
        lines = lines[:2]
    trouble = notice(scene)
    if trouble:
        lines.append(styled("! ", "bold") + clean(trouble, "bold reverse"))
    return lines


def notice(scene: Scene) -> str:
    """What is wrong, in a sentence; empty if nothing is known to be."""
    if scene.link != "fresh":
        what = {
            "gone": f"no daemon answers at {scene.url}",
            "refused": f"the daemon refuses: {scene.fault}",
        }.get(scene.link, f"the daemon does not answer at {scene.url}")
        return f"stale for {figures.span(scene.stale_s)}: {what}; trying again"
    health = at(scene.document, "health")
    reasons = at(health, "reasons")
    if isinstance(reasons, list) and reasons:
        return "; ".join(map(str, reasons))
    return ""


def _daemon(scene: Scene) -> Text:
    document = scene.document
    version = str(at(document, "version") or figures.NONE)
    name = version if version.startswith("streamer") else f"streamer {version}"
    age = Text(f"up {figures.span(at(document, 'uptime_s'))}")
    # Before what may be cut where there is little room.
    return Text("  ").join([clean(name, "bold"), _health(scene), age])


def _health(scene: Scene) -> Text:
    if scene.link != "fresh":
        return styled("STALE", "bold red")
    ok, ready = at(scene.document, "health", "ok"), at(scene.document, "ready")
    if ok is None and ready is None:
        return styled(figures.NONE, "dim")
    if ok is False:
        return styled("NOT HEALTHY", "bold red")
    return styled("ready", "green") if ready else styled("NOT READY", "bold yellow")


def _us(scene: Scene, state: State) -> list[Text]:
    """Where it is and how often it is looked at; then the same in fewer words."""
    pace = (
        styled("PAUSED", "bold reverse")
        if state.paused
        else styled(f"{state.interval_s:g} s", "dim")
    )
    return [Text("  ").join([clean(scene.url, "dim"), pace]), pace]


def _ends(left: Text, rights: Sequence[Text], width: int) -> Text:
    """A text at each end; at the right the first for which there is room."""
    for right in rights:
        room = width - cell_len(right.plain)
        if cell_len(left.plain) + 2 <= room:
            return aligned(left, room) + right
    return aligned(left, width)


def _fact(label: str, value: str, style: str = "") -> Text:
    return styled(f"{label} ", "dim") + styled(value, style)


def _flow(scene: Scene, arrow: str) -> tuple[str, str]:
    rates = at(scene.document, "rates")
    records = figures.rate(at(rates, f"records_{arrow}"))
    return records, figures.full_size(at(rates, f"bytes_{arrow}"))


def sla(scene: Scene, burning: bool = True) -> Text:
    """Whether the service levels are met, and how fast the budget burns."""
    document = at(scene.document, "sla")
    met = at(document, "met")
    if not isinstance(met, bool):
        return _fact("sla", "none set", "dim")
    burns = [at(row, "burn_5m") for row in maps(at(document, "objectives"))]
    burn = figures.rate(max((each for each in burns if figures.is_number(each)), default=None))
    state = styled("met", "green") if met else styled("NOT MET", "bold red")
    return styled("sla ", "dim") + state + Text(f" burn {burn}" if burning else "")


def _errors(scene: Scene) -> Text:
    rates = at(scene.document, "rates")
    shown = styled("errors ", "dim")
    for name, gap in (("errors", ""), ("timeouts", "  timeouts ")):
        value = at(rates, name)
        bad = figures.is_number(value) and value > 0
        shown = (
            shown
            + styled(gap, "dim")
            + styled(f"{figures.rate(value)}/s", "bold red" if bad else "")
        )
    return shown


def _process(scene: Scene) -> Text:
    process = at(scene.document, "process")
    cpu = at(process, "cpu")
    cores = f"{cpu:.2f}" if figures.is_number(cpu) else figures.NONE
    memory = figures.full_size(at(process, "rss_bytes"))
    return _fact("cpu", cores) + Text("  ") + _fact("rss", memory)


def _append(scene: Scene) -> tuple[str, str]:
    """The slowest pipeline's median and 99th percentile."""
    appends = [row.get("append") for row in maps(at(scene.document, "pipelines"))]
    found = []
    for name in ("p50_s", "p99_s"):
        values = [figures.of_count(append, name) for append in appends]
        found.append(
            figures.seconds(max((v for v in values if figures.is_number(v)), default=None))
        )
    return found[0], found[1]


def _wide(scene: Scene) -> list[Text]:
    p50, p99 = _append(scene)
    (records_in, bytes_in), (records_out, bytes_out) = _flow(scene, "in"), _flow(scene, "out")
    rows = [
        [
            _fact("in ", f"{records_in:>6} rec/s {bytes_in:>8}/s"),
            _fact("append p50", f"{p50:<6}") + _fact(" p99", p99),
            _process(scene),
        ],
        [
            _fact("out", f"{records_out:>6} rec/s {bytes_out:>8}/s"),
            _errors(scene),
            sla(scene),
        ],
    ]
    return [
        Text("  ").join([aligned(cell, _CELL) for cell in cells[:2]] + cells[2:]) for cells in rows
    ]


def _narrow(scene: Scene) -> list[Text]:
    _, p99 = _append(scene)
    (records_in, bytes_in), (records_out, bytes_out) = _flow(scene, "in"), _flow(scene, "out")
    return [
        _fact("in ", f"{records_in:>6}/s {bytes_in:>8}/s  ") + _fact("p99", p99),
        _fact("out", f"{records_out:>6}/s {bytes_out:>8}/s  ") + sla(scene, False),
        _process(scene) + Text("  ") + _fact("err", f"{figures.rate(_both(scene))}/s"),
    ]


def _both(scene: Scene) -> Any:
    """Errors and timeouts together, a second."""
    rates = at(scene.document, "rates")
    values = [at(rates, name) for name in ("errors", "timeouts")]
    known = [each for each in values if figures.is_number(each)]
    return sum(known) if known else None


# -------------------------------------------------------------------------- views and keys


def tabs(scene: Scene, state: State, width: int) -> Text:
    """The views with their numbers; the present one in brackets."""
    counts = {view: count(scene, view) for view in VIEWS}
    for form in range(3):
        parts = [_tab(view, number + 1, counts[view], state, form)
                 for number, view in enumerate(VIEWS)]  # fmt: skip
        line = Text("").join(parts)
        if cell_len(line.plain) <= width:
            break
    return line


def _tab(view: str, number: int, rows: int | None, state: State, form: int) -> Text:
    """Form 0 has counts, 1 only names, 2 the name of the present one only."""
    text = f"{number} {view}"
    if form == 0 and rows is not None:
        text += f" {figures.count(rows)}"
    if view == state.view:
        return styled(f"[{text}]", "bold reverse")
    return styled(f" {number if form == 2 else text} ", "dim")


def footer(state: State, width: int, chosen: int, rows: int, more: int) -> Text:
    """What keys do here; or the filter that is being typed. `more`: lines below the screen."""
    if state.typing:
        typed = Text("filter: ") + styled(escaped(state.filter), "bold") + Text("▏")
        return _ends(typed, [styled("enter keeps, esc clears", "dim")], width)
    keys = _keys(state)
    place = _place(state, chosen, rows, more)
    line = Text("  ").join(styled(key, "bold") + styled(f" {does}", "dim") for key, does in keys)
    while keys and cell_len(line.plain) + cell_len(place.plain) + 2 > width:
        keys = keys[:-1]
        line = Text("  ").join(
            styled(key, "bold") + styled(f" {does}", "dim") for key, does in keys
        )
    return aligned(line, max(0, width - cell_len(place.plain))) + place


def _keys(state: State) -> list[tuple[str, str]]:
    if state.help:
        return [("?", "closes"), ("q", "closes")]
    if state.opened is not None:
        return [("esc", "back"), ("↑↓", "scroll"), ("?", "help"), ("q", "quit"), ("p", "pause")]
    keys = [("?", "help"), ("q", "quit"), ("tab", "view"), ("↑↓", "move")]
    if state.view != "sla":
        keys.append(("enter", "open"))
    keys += [("/", "filter")]
    return [*keys, ("s", "sort"), ("p", "pause")] if sorts(state.view) else keys


def _place(state: State, chosen: int, rows: int, more: int) -> Text:
    parts = []
    if state.reading:
        return Text(f"{more} more lines ↓" if more else "")
    if state.filter:
        parts.append(f"filter: {state.filter}")
    if state.place.sort:
        parts.append(f"by {state.place.sort} {'▼' if state.place.reverse else '▲'}")
    if rows:
        parts.append(f"{chosen + 1}/{rows}")
    return clean("  ".join(parts), "") if parts else Text("")

"""The screen of documents: it fits, and what matters is there, at any width."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import pytest
from rich.cells import cell_len

from streamer_tools.top.scene import Answer, Id, Scene
from streamer_tools.top.screen import draw, help_lines, plain_sections
from streamer_tools.top.state import VIEWS, Place, State
from tests.tools.top import documents

SIZES = [(40, 10), (40, 20), (41, 11), (71, 24), (72, 24), (80, 24), (120, 40), (200, 60)]
OPENED: dict[str, Id] = {
    "pipelines": ("default",), "groups": ("orders", "billing"), "streams": ("orders",),
    "sessions": (17,), "events": (104,),
}  # fmt: skip
ANSWERS = {
    "groups": documents.GROUP, "streams": documents.STREAM, "sessions": documents.SESSION,
}  # fmt: skip


def scene(**changes: Any) -> Scene:
    return Scene("ws://127.0.0.1:4440", documents.overview(**changes), documents.EVENTS)


def drawn(shown: Scene, state: State, width: int = 80, height: int = 24) -> str:
    """The screen, which must be whole: as many lines as asked for, each as wide."""
    lines, _ = draw(shown, state, width, height)
    assert len(lines) == height
    for line in lines:
        assert cell_len(line.plain) == width, line.plain
        assert line.plain.isprintable(), line.plain
    return "\n".join(line.plain for line in lines)


def opened(view: str, shown: Scene | None = None) -> tuple[Scene, State]:
    """What is seen of a row of that view, with what its verb answers."""
    answer = Answer((view, OPENED[view]), ANSWERS.get(view))
    shown = attrs.evolve(shown or scene(), answer=answer)
    return shown, State(view=view, opened=OPENED[view])


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_each_view_fits_each_size(view: str, width: int, height: int) -> None:
    text = drawn(scene(), State(view=view), width, height)
    assert f"[{VIEWS.index(view) + 1} {view}" in text
    assert "? help" in text


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("view", OPENED)
def test_what_is_opened_fits_each_size(view: str, width: int, height: int) -> None:
    assert "esc back" in drawn(*opened(view), width, height)


FACTS = {
    "pipelines": ["default", "bulk", "ingest", "30%", "1.2ms", "(restarting)"],
    "groups": ["billing", "1,234", "4m", "search-index", "1.23M", "(paused)"],
    "streams": ["orders", "1.23M", "3,100", "(stopped)"],
    "sessions": ["17", "orders-prod", "(slow)"],
    "events": ["ERROR", "pipeline audit: persis", "warn"],
    "sla": ["latency_p99", "4.8ms", "20ms", "NO"],
}


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("view", VIEWS)
def test_the_facts_are_there_at_each_width(view: str, width: int) -> None:
    text = drawn(scene(), State(view=view), width, 24)
    for fact in [*FACTS[view], "12.4k", "4.8ms", "NOT MET", "0.84", "143 MiB", "ready"]:
        assert fact in text, fact


def test_a_wide_screen_has_all_of_a_channel() -> None:
    lines = drawn(scene(), State(), 120, 40).splitlines()
    [ingest] = [line for line in lines if "952/1,024" in line]
    for fact in ("ingest group", "93%", "1.9M/8M", "23%", "1,240", "400us/1.2ms", "120us/3.1ms",
                 "12ms", " 2"):  # fmt: skip
        assert fact in ingest, fact


def test_columns_stand_below_their_titles() -> None:
    lines = drawn(scene(), State(view="groups")).splitlines()
    title = next(line for line in lines if "lag/s" in line)
    billing = next(line for line in lines if "billing" in line)
    assert title.index("lag ") + 3 == billing.index("1,234") + 5
    assert title.rstrip().endswith("dead")
    assert len(billing.rstrip()) == len(title.rstrip())


def test_only_the_chosen_pipeline_is_open_where_there_is_no_room_for_all() -> None:
    small = drawn(scene(), State(), 80, 16)
    assert small.count("ingest") == 1
    assert "no space left" not in small
    places = {**State().places, "pipelines": Place(("audit",))}
    chosen = drawn(scene(), State(places=places), 80, 16)
    assert "persist: no space left on device" in chosen
    assert drawn(scene(), State(), 80, 24).count("ingest") == 3


def test_a_long_list_shows_what_is_chosen() -> None:
    rows = [documents.stream(f"s{number:04}") for number in range(1000)]
    places = {**State().places, "streams": Place(("s0700",))}
    text = drawn(scene(streams=rows), State(view="streams", places=places))
    assert "›s0700" in text
    assert "701/1,000" in text.replace("701/1000", "701/1,000")
    assert "s0699" in text
    assert "s0100" not in text


def test_rows_are_sorted_and_what_is_missing_comes_last() -> None:
    def order(sort: str, reverse: bool) -> list[str]:
        places = {**State().places, "groups": Place(sort=sort, reverse=reverse)}
        text = drawn(scene(), State(view="groups", places=places), 120)
        names = ("billing", "search-index", "sender", "warehouse")
        return sorted(names, key=text.index)

    assert order("lag", True) == ["search-index", "billing", "warehouse", "sender"]
    assert order("lag", False) == ["sender", "warehouse", "billing", "search-index"]
    assert order("oldest", True)[-1] == order("oldest", False)[-1] == "sender"
    places = {**State().places, "groups": Place(sort="lag", reverse=True)}
    text = drawn(scene(), State(view="groups", places=places))
    assert "lag▼" in text
    assert "by lag ▼" in text


def test_a_filter_leaves_what_has_it_in_a_name() -> None:
    text = drawn(scene(), State(view="groups", filter="SEARCH"))
    assert "search-index" in text
    assert "billing" not in text
    assert "filter: SEARCH" in text
    nothing = drawn(scene(), State(view="groups", filter="xyz"))
    assert "nothing here has 'xyz' in its name" in nothing
    typing = drawn(scene(), State(view="groups", filter="sea", typing=True))
    assert "filter: sea▏" in typing
    assert "esc clears" in typing


def test_empty_views_say_why() -> None:
    empty = Scene("u", {})
    for view in VIEWS:
        text = drawn(empty, State(view=view))
        assert any(word in text for word in ("no ", "nothing")), view


def test_opened_rows_tell_all_there_is() -> None:
    expected = {
        "pipelines": ["groups of up to 640 records", "grow", "512 → 640", "the group was full",
                      "p99.9 7.2ms", "307 of 1,024", "most 712"],
        "groups": ["2 members", "billing-0", "127.0.0.1:50211", "0,2", "4 partitions", "1,003",
                   "ack wait 30s", "attempts 5"],
        "streams": ["4 partitions", "309,900", "310k", "13"],
        "sessions": ["orders-producer", "under way 1.2 MiB", "31%", "credit_bytes", "member 7"],
        "events": ["pipeline_crashed", "no space left on device", "restart_in 2.0s"],
    }  # fmt: skip
    for view, facts in expected.items():
        text = drawn(*opened(view), 100, 70)
        for fact in facts:
            if fact not in ("309,900", "restart_in 2.0s"):
                assert fact in text, (view, fact)


def test_what_was_opened_and_is_gone_says_so() -> None:
    text = drawn(scene(groups=[]), State(view="groups", opened=("orders", "billing")))
    assert "orders / billing: not there any more" in text


def test_a_verb_that_is_refused_is_told_below_what_is_known() -> None:
    shown, state = opened("groups")
    shown = attrs.evolve(
        shown, answer=Answer(("groups", ("orders", "billing")), fault="no such group")
    )
    assert "no such group" in drawn(shown, state)
    assert "asking ..." in drawn(attrs.evolve(shown, answer=None), state)


def test_stale_numbers_are_marked_in_words() -> None:
    gone = attrs.evolve(scene(), link="gone", stale_s=12.0)
    for width in (40, 80):
        text = drawn(gone, State(), width)
        assert "STALE" in text
        assert "stale for 12 s: no daemon answers" in text
        assert "12.4k" in text
    refused = attrs.evolve(scene(), link="refused", fault="going down", stale_s=1.0)
    assert "the daemon refuses: going down" in drawn(refused, State())
    silent = attrs.evolve(scene(), link="silent", stale_s=5.0)
    assert "the daemon does not answer" in drawn(silent, State())


def test_what_is_wrong_with_the_daemon_has_a_line() -> None:
    health = {"ok": False, "ready": False, "reasons": ["partition 0 of orders stopped"]}
    text = drawn(scene(health=health, ready=False), State(), 40)
    assert "NOT HEALTHY" in text
    assert "partition 0 of orders stopped" in text
    ready = drawn(scene(health={"ok": True, "ready": False}, ready=False), State())
    assert "NOT READY" in ready


def test_events_that_nobody_saw_are_counted() -> None:
    shown = attrs.evolve(scene(), missed=1234)
    assert "1,234 more came and went unseen" in drawn(shown, State(view="events"))


def test_pausing_is_told() -> None:
    assert "PAUSED" in drawn(scene(), State(paused=True))
    assert "PAUSED" in drawn(scene(), State(paused=True), 48)


@pytest.mark.parametrize(("width", "height"), [(39, 24), (80, 9), (12, 4), (3, 2), (1, 1)])
def test_a_terminal_that_is_too_small_gets_a_sentence(width: int, height: int) -> None:
    lines, shown = draw(scene(), State(), width, height)
    assert len(lines) == height
    assert all(cell_len(line.plain) == width for line in lines)
    assert shown.rows == ()
    if width * height > 100:
        words = " ".join(" ".join(line.plain for line in lines).split())
        assert words == f"the terminal has {width} x {height}, streamer top needs 40 x 10"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_help_fits_and_can_be_scrolled(width: int) -> None:
    assert max(cell_len(line.plain) for line in help_lines(width)) <= width
    text = drawn(scene(), State(help=True), width, 12)
    assert "more lines ↓" in text
    drawn(scene(), State(help=True, scroll=10_000), width, 12)


# ---------------------------------------------------------------------- names and other versions


def hostile(value: Any) -> Any:
    """The document with each of its texts, but for keys, as bad as a name can be."""
    if isinstance(value, dict):
        return {key: hostile(each) for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return documents.HOSTILE if isinstance(value, str) else value


def holes(value: Any) -> list[Any]:
    """The document in each of the ways in which one of its keys is missing, or is something
    else."""
    if isinstance(value, list):
        return [[each, *value[1:]] for each in holes(value[0])] if value else []
    if not isinstance(value, dict):
        return []
    found: list[Any] = []
    for key, each in value.items():
        found.append({name: other for name, other in value.items() if name != key})
        found += [{**value, key: other} for other in (None, "x\n", 7, -1.5, [], [3], {}, True)]
        found += [{**value, key: inner} for inner in holes(each)]
    return found


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [40, 80])
def test_hostile_names_cannot_act(view: str, width: int) -> None:
    document = hostile(documents.overview())
    events = hostile(copy.deepcopy(documents.EVENTS))
    shown = Scene(documents.HOSTILE, document, events)
    state = State(view=view, filter=documents.HOSTILE[:5])
    drawn(shown, state, width)
    drawn(shown, attrs.evolve(state, typing=True), width)
    drawn(shown, attrs.evolve(state, filter=""), width)
    name = documents.HOSTILE
    ids: dict[str, Id] = {
        **OPENED,
        "pipelines": (name,),
        "groups": (name, name),
        "streams": (name,),
    }
    if view in ids:
        answer = Answer((view, ids[view]), hostile(ANSWERS.get(view)), fault=name)
        here = attrs.evolve(shown, answer=answer)
        drawn(here, State(view=view, opened=ids[view]), width, 60)


def test_full_width_names_are_cut_between_characters() -> None:
    name = "注文" * 30
    rows = [documents.group(name, name, paused=True)]
    for width in range(40, 130):
        assert "注文" in drawn(scene(groups=rows), State(view="groups"), width, 12)


def test_a_daemon_of_another_version_may_lack_anything() -> None:
    small = documents.overview(
        pipelines=[documents.pipeline("default")], streams=[documents.stream("s")],
        groups=[documents.group("s", "g")], sla={"met": True, "objectives": [
            documents.objective("lag_age", 60, "s", 1)]},
        sessions={"count": 1, "max": 9, "shown": [documents.session(1, "n")]},
    )  # fmt: skip
    for document in holes(small):
        shown = Scene("u", document, documents.EVENTS)
        for view in VIEWS:
            lines, _ = draw(shown, State(view=view), 80, 24)
            assert len(lines) == 24
        draw(shown, State(opened=("default",)), 80, 24)


@pytest.mark.parametrize("view", ANSWERS)
def test_answers_of_another_version_may_lack_anything(view: str) -> None:
    _, state = opened(view)
    for document in holes(ANSWERS[view]):
        answer = Answer((view, OPENED[view]), document)
        drawn(attrs.evolve(scene(), answer=answer), state)


@pytest.mark.parametrize("width", [1, 10, 20, 40, 80, 120, 300])
def test_one_plain_look_fits_any_width(width: int) -> None:
    lines = plain_sections(scene(), State(), width)
    assert max(cell_len(line.plain) for line in lines) <= width
    text = "\n".join(line.plain for line in lines)
    assert text.isprintable() or "\n" in text
    if width >= 80:
        for fact in ("ingest", "billing", "orders-prod", "latency_p99", "pipeline_crashed"):
            assert fact in text, fact

"""What is searched: what the workload can feel, within what the daemon takes as it is."""

from __future__ import annotations

import random

import attrs
import pytest

from streamer.config import Config
from streamer.config_load import structure_config
from streamer.limits import KIB, MIB
from streamer.pipeline.registry import Registry
from streamer_tools.tune.space import Candidate, Knob, Space, make_space
from streamer_tools.tune.workload import ClientSettings, Workload


def config(**tree: object) -> Config:
    return structure_config(tree, Registry.installed())


def names(space: Space) -> set[str]:
    return {knob.name for knob in space.knobs}


def test_single_records_feel_ingest_and_not_the_client() -> None:
    space = make_space(config(), Workload())
    assert {"ingest.linger_s", "batch.zstd_level", "persist.commit_bytes"} <= names(space)
    assert not any(name.startswith("client.") for name in names(space))
    assert "one record under way" in space.left_out["client.in_flight"]


def test_tasks_that_share_a_producer_feel_how_it_groups() -> None:
    space = make_space(config(), Workload(tasks=8))
    assert {"client.batch_records", "client.linger_s", "ingest.linger_s"} <= names(space)


def test_batches_feel_the_client_and_not_ingest() -> None:
    space = make_space(config(), Workload(mode="batch"))
    assert {"client.batch_records", "client.in_flight", "ingest.channel.bytes"} <= names(space)
    assert "ingest.linger_s" in space.left_out
    assert "batches are always full" in space.left_out["client.linger_s"]
    assert "client.linger_s" in names(make_space(config(), Workload(mode="batch", rate=1000.0)))


def test_threads_are_for_readers() -> None:
    assert "no readers" in make_space(config(), Workload()).left_out["daemon.read_threads"]
    space = make_space(config(), Workload(readers=2))
    assert space.knob("daemon.read_threads") == Knob(
        "daemon.read_threads", 4, (1, 2, 4, 8), ("daemon", "read_threads"), "threads", 0.15
    )


def test_the_present_value_is_among_the_choices_and_no_value_that_would_be_cut() -> None:
    found = config(session={"budget_bytes": "8 MiB", "window_bytes": "3 MiB"})
    knob = make_space(found, Workload(producers=4, readers=4)).knob("session.window_bytes")
    assert knob.choices == (256 * KIB, 1 * MIB, 3 * MIB)
    batches = Workload(mode="batch", client=ClientSettings(batch_records=700))
    small = config(batch={"records": 1000})
    assert make_space(small, batches).knob("client.batch_records").choices == (100, 300, 700, 1000)


def test_the_pipeline_of_the_stream_is_what_is_tuned() -> None:
    found = config(
        pipelines=[
            {"name": "bulk", "streams": ["bulk-*"]},
            {"name": "rest", "ingest": {"linger_s": 0.5}},
        ]
    )
    knob = make_space(found, Workload()).knob("ingest.linger_s")
    assert (knob.path, knob.present) == (("pipelines", 1, "ingest", "linger_s"), 0.5)
    bulk = make_space(found, Workload(stream="bulk-1")).knob("ingest.linger_s")
    assert bulk.path == ("pipelines", 0, "ingest", "linger_s")


def test_what_is_durable_is_never_searched() -> None:
    for workload in (Workload(), Workload(mode="batch", rate=1.0, readers=1), Workload(tasks=9)):
        space = make_space(config(), workload)
        durable = ("fsync", "ack", "level_", "storage", "retention")
        assert not any(word in name for name in names(space) for word in durable)


SPACE = Space((Knob("a", 1, (1, 2, 3)), Knob("b", 1.0, (1.0, 2.0)), Knob("c", 5, (5,))))


def test_candidates_are_distinct_changes_and_the_same_for_a_seed() -> None:
    first = SPACE.sample(5, random.Random(1))
    assert first == SPACE.sample(5, random.Random(1))
    assert len({each.changes for each in first}) == 5
    for each in first:
        assert each.changes
        assert all(value != SPACE.knob(name).present for name, value in each.changes)
        assert "c" not in dict(each.changes)


def test_limits_are_changed_seldom() -> None:
    space = make_space(config(), Workload())
    drawn = [dict(each.changes) for each in space.sample(400, random.Random(2))]
    often, seldom = (
        sum(name in each for each in drawn) / len(drawn)
        for name in ("ingest.records_min", "persist.channel.items")
    )
    assert 0.4 < often < 0.6
    assert 0.1 < seldom < 0.2


def test_a_small_space_has_few_candidates() -> None:
    assert len(SPACE.sample(100, random.Random(1))) == 5
    assert Space((Knob("a", 1, (1,)),)).sample(3, random.Random(1)) == []


def test_what_does_not_go_together_is_not_drawn() -> None:
    def together(changes: tuple[tuple[str, float], ...]) -> bool:
        return len(changes) < 2

    space = attrs.evolve(SPACE, valid=together)
    assert len(space.sample(100, random.Random(1))) == 3


def test_settings_put_back() -> None:
    candidate = Candidate("x", (("a", 2), ("b", 2.0)))
    assert candidate.without(["a"], "y") == Candidate("y", (("b", 2.0),))
    assert candidate.without(["a", "b"], "y").is_present


@pytest.mark.parametrize(
    ("knob", "value", "text"),
    [
        (Knob("a", 1, (1,), (), "bytes"), 512 * KIB, "512 KiB"),
        (Knob("a", 1, (1,)), 4096, "4096"),
        (Knob("a", 1.0, (1.0,), (), "s"), 0.005, "0.005"),
    ],
)
def test_values_as_people_read_them(knob: Knob, value: float, text: str) -> None:
    assert knob.text(value) == text

"""What people and programs get to see of a search."""

from __future__ import annotations

import json
import re

from streamer_tools.bench.noise import Noise
from streamer_tools.tune import report
from streamer_tools.tune.evidence import Round, Row
from streamer_tools.tune.proposal import conclude
from streamer_tools.tune.score import Run, Weights
from streamer_tools.tune.space import PRESENT, Candidate
from streamer_tools.tune.workload import Workload
from tests.tools.tune.fakes import Machine, good, space


def linger_matters(settings: object) -> Run:
    assert isinstance(settings, dict)
    if settings["session.window_bytes"] != 4 << 20:
        return Run(errors=1, fault="the daemon ended with status 78")
    return good(p99_s=0.004 if settings["ingest.linger_s"] == 0 else 0.01)


def test_a_round_as_a_table() -> None:
    candidate = Candidate("c01", (("session.window_bytes", 1 << 20), ("client.in_flight", 64)))
    rows = (
        Row(candidate, (good(1100.0), good(900.0)), (1.1, 0.9), True),
        Row(Candidate(PRESENT), (good(), Run(errors=2, fault="no answer")), (1.0, 0.0), True),
    )
    lines = list(report.round_lines(space(), Round("halving", "round 1 of 2", 0.5, rows), True))
    assert lines[0] == "round 1 of 2: runs of 0.5 s"
    assert re.split(r"\s+", lines[2].strip()) == (
        ["c01", "2", "1,000", "10%", "10.00", "0%", "0", "1.00", "yes"]
    )
    assert re.split(r"\s+", lines[3].strip()) == (
        ["present", "2", "1,000", "10.00", "2", "0.00", "yes"]
    )
    assert lines[4].strip() == "no answer"
    assert lines[5].strip() == "c01: session.window_bytes=1 MiB, client.in_flight=64"


def test_what_did_not_run_is_not_in_the_table() -> None:
    rows = (Row(Candidate(PRESENT), (good(),), (1.0,)), Row(Candidate("c01", (("a", 1),)), (), ()))
    lines = report.round_lines(space(), Round("halving", "round 1", 0.5, rows, False), True)
    text = "\n".join(lines)
    assert "round 1: runs of 0.5 s, cut short" in text
    assert "present" in text
    assert "c01" not in text


def test_all_that_is_told_fits_and_names_the_reasons() -> None:
    evidence = Machine(linger_matters, noise=0.01).search().run()
    proposal = conclude(evidence)
    told = [
        *report.space_lines(evidence.space),
        *report.explain_score(Weights()),
        *report.finding_lines(evidence),
        *report.proposal_lines(evidence, proposal),
    ]
    text = "\n".join(told)
    assert "ingest.linger_s = 0 (present 0.005)" in text
    assert ": matters" in text
    assert "proposed: c" in text
    assert "chance alone gives as much in" in text
    assert re.search(r"score of the medians: 2\.\d+\^0\.4 \(latency\) x ", text)


def test_nothing_proposed_says_why() -> None:
    evidence = Machine(lambda _: good()).search().run()
    [line, *_] = report.proposal_lines(evidence, conclude(evidence))
    assert line.startswith("nothing is proposed: ")


def test_client_settings_as_python() -> None:
    candidate = Candidate("x", (("batch.zstd_level", 3), ("client.in_flight", 64)))
    single = Workload(tasks=4, stream="it's")
    assert list(report.client_lines(single, candidate)) == [
        'async with client.producer("it\'s", in_flight=64) as producer:'
    ]
    comment, line = report.client_lines(Workload(mode="batch"), candidate)
    assert comment.startswith("# send_batch")
    assert line == "async with client.producer('tune', in_flight=64) as producer:"
    compile(f"async def f():\n    {line}\n        pass", "", "exec")
    assert not list(report.client_lines(single, Candidate("x", (("batch.zstd_level", 3),))))


def test_the_document_is_json_with_every_run() -> None:
    evidence = Machine(linger_matters).search().run()
    proposal = conclude(evidence)
    document = report.document(evidence, proposal, noise=report.noise(Noise(), proposal))
    text = json.dumps(document, allow_nan=False)
    found = json.loads(text)
    assert found["proposal"]["settings"] == {"ingest.linger_s": 0.0}
    runs = [run for each in found["rounds"] for row in each["candidates"] for run in row["runs"]]
    assert len(runs) == evidence.runs
    assert any(run["p99_s"] is None and run["fault"] for run in runs)
    assert found["plan"]["candidates"] > 2
    assert found["noise"]["sentences"]

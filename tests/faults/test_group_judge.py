"""The judge of groups notices each fault that it is there to notice: else its silence would mean
nothing.

A made-up run: records a0, a1, b0, ... stand in partition 0 in that order. A line of a life is
`TIME WHAT TOKEN RECORD [ATTEMPT]`, written as `tests.faults.group_history` says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.faults.group_history import (
    DRIVER_FILE,
    END_FILE,
    LIFE_SUFFIX,
    PRODUCED_FILE,
    history_of,
)
from tests.faults.group_judge import judge

RECORDS = ("a0", "a1", "b0", "c0", "a2")
OFFSETS = {name: offset for offset, name in enumerate(RECORDS)}
DRAINED = [{"partition": 0, "lag": 0, "in_flight": 0, "retrying": 0}]


def life(*lines: str) -> str:
    """The file of a life."""
    found = []
    for line in lines:
        at, what, *rest = line.split()
        if len(rest) > 1:
            token, record, *attempt = rest
            rest = [token, "0", str(OFFSETS[record])]
            if what == "begin":
                rest += [*(attempt or ["1"]), record[0], record[1]]
        found.append(" ".join([at, what, *rest]) + "\n")
    return "".join(found)


def handled(at: float, token: int, record: str, attempt: int = 1) -> list[str]:
    """A handling like most."""
    return [
        f"{at} begin {token} {record} {attempt}",
        f"{at + 0.1} end {token} {record}",
        f"{at + 0.1} ack {token} {record}",
        f"{at + 0.2} ok {token} {record}",
    ]


def all_but(*records: str) -> list[str]:
    """The rest is handled well, early and one after the other."""
    lines: list[str] = []
    for number, record in enumerate(RECORDS):
        if record not in records:
            lines += handled(number + 10.0, 100 + number, record)
    return lines


def dead(record: str, reason: str = "max_deliveries", attempts: int = 3) -> dict[str, Any]:
    return {
        "partition": 0,
        "offset": OFFSETS[record],
        "key": record[0],
        "sequence": int(record[1]),
        "reason": reason,
        "attempts": attempts,
        "error": "planned",
    }


def verdict_of(
    lives: dict[str, Sequence[str]],
    driver: Sequence[str] = (),
    *,
    mode: str = "shared",
    deaths: Sequence[dict[str, Any]] = (),
    fates: dict[str, str] | None = None,
    left: Sequence[dict[str, int]] = DRAINED,
    log: Sequence[str] = RECORDS,
    exits: bool = True,
) -> list[str]:
    """What the judge says. Every life ends well in the end, unless the driver's lines say how."""
    entries = [
        (0, offset, name[0], int(name[1]), (fates or {}).get(name, "ok"))
        for offset, name in enumerate(log)
    ]
    ends = [f"99 exit {name} 0" for name in lives if not any(name in line for line in driver)]
    files = {f"{name}{LIFE_SUFFIX}": life(*lines) for name, lines in lives.items()}
    files[DRIVER_FILE] = "".join(f"{line}\n" for line in [*driver, *(ends if exits else [])])
    files[PRODUCED_FILE] = "".join(f"1 acked {name[0]} {name[1]}\n" for name in RECORDS)
    settings = {"mode": mode, "ack_wait_s": 2.0, "max_deliveries": 3}
    files[END_FILE] = json.dumps(
        {"settings": settings, "log": entries, "dead": list(deaths), "left": list(left)}
    )
    return judge(history_of(files)).problems


def assert_one(problems: Sequence[str], says: str) -> None:
    assert any(says in problem for problem in problems), problems


KILLED = ("3 kill c0.1", "3.1 exit c0.1 -9")


@pytest.mark.parametrize("mode", ["shared", "key", "ordered"])
def test_what_is_right_is_right(mode: str) -> None:
    assert verdict_of({"c0.1": all_but()}, mode=mode) == []


def test_a_line_that_a_kill_cut_off_is_none() -> None:
    text = "1.5 acked a 0\n1.6 acked a"
    files = {DRIVER_FILE: "", PRODUCED_FILE: text}
    settings = {"mode": "shared", "ack_wait_s": 2.0, "max_deliveries": 3}
    files[END_FILE] = json.dumps({"settings": settings, "log": [], "dead": [], "left": []})
    assert history_of(files).acked == {("a", 0)}


# ----------------------------------------------------------------------------------- lost, or left


def test_a_record_that_nobody_handled() -> None:
    assert_one(
        verdict_of({"c0.1": all_but("b0")}), "neither handled nor dead: Entry(partition=0, offset=2"
    )


def test_a_record_that_was_only_begun() -> None:
    lines = ["1 begin 1 b0", "1.1 nack 1 b0", *all_but("b0")]
    assert_one(verdict_of({"c0.1": lines}), "begun 1 times")


def test_an_acked_record_that_is_not_in_the_log() -> None:
    problems = verdict_of({"c0.1": all_but("a2")}, log=RECORDS[:-1])
    assert problems == ["acked, and not in the log: a 2"]


def test_a_key_out_of_order_in_the_log() -> None:
    log = ("a1", "a0", "b0", "c0", "a2")
    assert_one(verdict_of({"c0.1": all_but()}, log=log), "key out of order in the log")


def test_something_else_was_handed_out() -> None:
    log = ("a0", "a1", "c0", "b0", "a2")
    assert_one(verdict_of({"c0.1": all_but()}, log=log), "something else than Entry(partition=0")


@pytest.mark.parametrize("what", ["lag", "in_flight", "retrying"])
def test_not_drained(what: str) -> None:
    left = [{**DRAINED[0], what: 1}]
    assert_one(verdict_of({"c0.1": all_but()}, left=left), "not drained")


@pytest.mark.parametrize("ends", [["9 exit c0.1 1"], ["9 exit c0.1 -9"], ["9 exit c0.1 -15"]])
def test_an_end_that_was_not_ours(ends: list[str]) -> None:
    assert_one(verdict_of({"c0.1": all_but()}, ends), "c0.1 ended with status")


# -------------------------------------------------------------------------------------- too often


def again(first: Sequence[str], driver: Sequence[str] = (), **more: Any) -> list[str]:
    """b0 was handled so by c0.1, and again by c1.1, at second 5."""
    attempt = more.pop("attempt", 2)
    lives = {"c0.1": first, "c1.1": [*handled(5.0, 9, "b0", attempt), *all_but("b0")]}
    return verdict_of(lives, driver, **more)


@pytest.mark.parametrize(
    ("lines", "driver"),
    [
        (["1 begin 1 b0", "1.1 nack 1 b0", "1.2 ok 1 b0"], []),
        (["1 begin 1 b0"], KILLED),
        (["1 begin 1 b0", "1.1 die"], ["1.2 exit c0.1 -9"]),
        (["2.8 begin 1 b0", "2.9 end 1 b0", "2.9 ack 1 b0"], KILLED),
        (["1 begin 1 b0", "1.1 end 1 b0", "1.1 ack 1 b0"], ["1.5 daemon-kill"]),
        (["1 begin 1 b0", "4 end 1 b0", "4 ack 1 b0", "4.1 lost 1 b0", "4 stall 1.0"], []),
        (["4.5 begin 1 b0", "4.6 end 1 b0", "4.6 ack 1 b0", "4.4 stall 1.0"], []),
        (["1 begin 1 b0", "4 end 1 b0", "4 ack 1 b0"], ["4 stall 1.0"]),
        (["1 begin 1 b0", "1 hang", "6 end 1 b0", "6 ack 1 b0"], []),
        (["1 begin 1 b0", "1 hang"], ["6 kill c0.1", "6.1 exit c0.1 -9"]),
    ],
)  # fmt: skip
def test_handled_again_with_a_reason(lines: list[str], driver: Sequence[str]) -> None:
    for mode in ("shared", "key", "ordered"):
        assert again(lines, driver, mode=mode) == []


def test_a_release_does_not_count() -> None:
    assert again(["1 begin 1 b0", "1.1 release 1 b0"], attempt=1) == []


@pytest.mark.parametrize(
    ("lines", "driver"),
    [
        # Nothing went wrong at all; or only later, or too long after the ack, or not for long.
        (handled(1.0, 1, "b0"), []),
        (["1 begin 1 b0", "1.1 end 1 b0", "1.1 ack 1 b0"], []),
        (["1 begin 1 b0"], []),
        (["1 begin 1 b0", "5.5 nack 1 b0"], []),
        (["1 begin 1 b0"], ["6 kill c0.1", "6.1 exit c0.1 -9"]),
        (["1 begin 1 b0", "1.1 end 1 b0", "1.1 ack 1 b0"], KILLED),
        (["1 begin 1 b0", "1.1 end 1 b0", "1.1 ack 1 b0"], ["3 daemon-kill"]),
        (["1 begin 1 b0"], ["0.3 daemon-kill"]),
        (["1 begin 1 b0"], ["5.5 daemon-kill"]),
        (["1 begin 1 b0", "1.6 stall 1.0", "1.7 end 1 b0"], []),
        (["4.2 begin 1 b0", "7 stall 4.7", "7 end 1 b0"], []),
        # What was confirmed is done, whoever dies.
        (handled(1.0, 1, "b0"), ["1.2 kill c0.1", "1.3 exit c0.1 -9"]),
        (handled(1.0, 1, "b0"), ["1.2 daemon-kill"]),
    ],
)
def test_handled_again_without_a_reason(lines: list[str], driver: Sequence[str]) -> None:
    assert_one(again(lines, driver), "handled again without a reason: 0/2 (b 0) by c0.1")


def test_a_termination_that_was_confirmed_is_one() -> None:
    lines = ["1 begin 1 b0", "1.1 term 1 b0", "1.2 ok 1 b0"]
    assert_one(again(lines, ["1.3 daemon-kill"]), "handled again without a reason")


def test_an_ordered_group_goes_back() -> None:
    lines = ["1 begin 1 a1", "1.1 nack 1 a1", "1.2 ok 1 a1", "1.3 begin 2 b0", "1.4 end 2 b0"]
    lives = {
        "c0.1": [*all_but("a1", "b0")[:4], *lines],
        "c1.1": [*handled(11.0, 111, "a1", 2), *handled(12.0, 112, "b0"), *all_but("a1", "b0")[4:]],
    }
    problems = verdict_of(lives, mode="ordered")
    assert problems != []
    assert not any("b 0" in problem for problem in problems)


# ------------------------------------------------------------------------------ tokens, attempts


def test_begun_twice_under_one_token() -> None:
    lines = [*all_but(), "30 begin 102 b0"]
    assert_one(verdict_of({"c0.1": lines}), "begun twice under one token")


def test_a_token_of_two_members() -> None:
    lines = [line.replace(" 9 b0", " 1 b0") for line in handled(5.0, 9, "b0", 2)]
    lives = {"c0.1": ["1 begin 1 b0", "1.1 nack 1 b0"], "c1.1": [*lines, *all_but("b0")]}
    assert_one(verdict_of(lives), "token of another lease")


def test_a_token_that_shrank() -> None:
    first = ["1 begin 20 b0", "1.1 nack 20 b0", "1.2 ok 20 b0"]
    assert_one(again(first), "the smaller token came later")


def test_a_failure_that_was_not_counted() -> None:
    nacked = ["1 begin 1 b0", "1.1 nack 1 b0", "1.2 ok 1 b0"]
    assert_one(again(nacked, attempt=1), "a failure was not counted")
    assert_one(again(["1 begin 1 b0"], KILLED, attempt=1), "a failure was not counted")
    # It came to only after the daemon had died, with what it held then.
    late = ["0.4 hang", "3 begin 1 b0", "3.1 end 1 b0", "3.1 ack 1 b0", "3.2 die"]
    assert again(late, ["2 daemon-kill", "3.3 exit c0.1 -9"], attempt=1) == []
    # The daemon may have died before it had noted that.
    assert again(["1 begin 1 b0"], [*KILLED, "3.2 daemon-kill"], attempt=1) == []


@pytest.mark.parametrize("attempt", [0, 4])
def test_an_attempt_beyond_the_limit(attempt: int) -> None:
    assert_one(
        verdict_of({"c0.1": [*handled(1, 1, "b0", attempt), *all_but("b0")]}), "attempt above 3"
    )


# ---------------------------------------------------------------------------------- dead letters


def tried(record: str, *attempts: int) -> list[str]:
    """Handlers that fail."""
    return [
        line
        for attempt in attempts
        for line in (
            f"{attempt} begin {attempt} {record} {attempt}",
            f"{attempt}.1 nack {attempt} {record}",
        )
    ]


def buried(lines: Sequence[str], *deaths: dict[str, Any], fate: str = "fail") -> list[str]:
    """What is said when b0 is dead."""
    lives = {"c0.1": [*lines, *all_but("b0")]}
    return verdict_of(lives, deaths=deaths, fates={"b0": fate})


def test_a_death_in_order() -> None:
    assert buried(tried("b0", 1, 2, 3), dead("b0")) == []
    assert buried(["1 begin 1 b0", "1.1 term 1 b0"], dead("b0", "term", 1), fate="term") == []


def test_poison_takes_nobody_along() -> None:
    lives: dict[str, Sequence[str]] = {
        f"c0.{n}": [f"{n} begin {n} b0 {n}", f"{n} die"] for n in (1, 2, 3)
    }
    ends = [f"{n}.5 exit c0.{n} -9" for n in (1, 2, 3)]
    lives["c1.1"] = all_but("b0", "c0")
    found = verdict_of(lives, ends, deaths=[dead("b0"), dead("c0")], fates={"b0": "poison"})
    assert len(found) == 1
    assert "dead, but begun in attempts [] only: Entry(partition=0, offset=3" in found[0]


@pytest.mark.parametrize(
    ("lines", "death", "says"),
    [
        (tried("b0", 1, 2, 3), dead("b0", attempts=2), "dead after 2 attempts"),
        (tried("b0", 1), dead("b0"), "begun in attempts [1] only"),
        (
            [*tried("b0", 1, 2, 3), "3.2 ok 3 b0"],
            {**dead("b0"), "error": "other"},
            "not what the handler said",
        ),
        (tried("b0", 1, 2, 3), dead("b0", "term"), "nobody asked for this death"),
        (tried("b0", 1, 2, 3), dead("b0", "boredom"), "unknown reason"),
        (handled(4.0, 4, "b0", 3), dead("b0"), "done and dead"),
        (handled(4.0, 4, "b0", 3)[:-1], dead("b0"), "done, it seems, and dead"),
        (tried("b0", 1, 2, 3), {**dead("b0"), "key": "x"}, "a dead letter of nobody"),
        (tried("b0", 1, 2, 3), {**dead("b0"), "offset": 77}, "a dead letter of nobody"),
    ],
)  # fmt: skip
def test_a_death_that_is_not_in_order(lines: list[str], death: dict[str, Any], says: str) -> None:
    assert_one(buried(lines, death), says)


def test_dead_twice_or_not_at_all() -> None:
    assert_one(buried(tried("b0", 1, 2, 3), dead("b0"), dead("b0")), "dead 2 times")
    assert_one(buried(handled(1, 1, "b0")), "not dead: Entry(partition=0, offset=2")


# ------------------------------------------------------------------------------------------- keys


def in_order(lives: dict[str, Sequence[str]], driver: Sequence[str] = (), **more: Any) -> list[str]:
    """What is said of a0 and a1, where keys are in order."""
    lives = {**lives, "c9.1": all_but("a0", "a1")}
    return verdict_of(lives, driver, mode="key", **more)


def test_a_later_record_that_came_before() -> None:
    lines = [*handled(2.0, 1, "a1"), *handled(3.0, 2, "a0")]
    assert_one(in_order({"c0.1": lines}), "was done: 0/1 (a 1)")
    assert verdict_of({"c0.1": [*lines, *all_but("a0", "a1")]}) == [], "which shared may"


def test_a_later_record_between_two_attempts() -> None:
    lines = [
        "1 begin 1 a0", "1.1 nack 1 a0", "1.2 ok 1 a0",
        *handled(2.0, 2, "a1"), *handled(3.0, 3, "a0", 2),
    ]  # fmt: skip
    assert_one(in_order({"c0.1": lines}), "was done: 0/1 (a 1)")


def test_one_after_the_other_though_the_ack_was_lost() -> None:
    first = [*handled(2.7, 1, "a0")[:-1], "2.9 begin 1 a1"]
    then = [*handled(4.0, 2, "a0", 2), *handled(5.0, 3, "a1", 2)]
    assert in_order({"c0.1": first, "c1.1": then}, KILLED) == []


def test_who_has_lost_the_lease_may_be_late() -> None:
    stale = ["1 begin 1 a0", "4 nack 1 a0", "4.0 stall 1.0", *handled(4.05, 2, "a1")[:-1]]
    then = [*handled(3.5, 3, "a0", 2), *handled(5.0, 4, "a1", 2)]
    assert in_order({"c0.1": stale, "c1.1": then}) == []


def test_after_a_death_the_next_may_go_on() -> None:
    lines = [*tried("a0", 1, 2, 3), *handled(4.0, 4, "a1")]
    assert in_order({"c0.1": lines}, deaths=[dead("a0")], fates={"a0": "fail"}) == []
    lines = [*tried("a0", 1, 2), *handled(2.5, 4, "a1"), *tried("a0", 3)]
    problems = in_order({"c0.1": lines}, deaths=[dead("a0")], fates={"a0": "fail"})
    assert_one(problems, "was done: 0/1 (a 1)")


def test_two_at_a_time() -> None:
    first = ["1 begin 1 a0", "2 end 1 a0", "2 ack 1 a0"]
    then = ["1.5 begin 2 a1", "2.5 end 2 a1", "2.5 ack 2 a1"]
    assert_one(in_order({"c0.1": first, "c1.1": then}), "two handlers of one key at a time")
    assert_one(
        in_order({"c0.1": [*first, *[line.replace(" 2 a1", " 1 a1") for line in then]]}),
        "two handlers of one key at a time",
    )


def test_two_at_a_time_after_a_lapse() -> None:
    first = ["1 begin 1 a0", "4 end 1 a0", "4 ack 1 a0", "4 stall 1.0"]
    then = [*handled(3.5, 2, "a0", 2), *handled(4.5, 3, "a1")]
    assert in_order({"c0.1": first, "c1.1": then}) == []


def test_a_handler_that_never_ended_runs_until_its_process_does() -> None:
    problems = in_order({"c0.1": ["1 begin 1 a0"], "c1.1": handled(2.0, 2, "a1")})
    assert_one(problems, "two handlers of one key at a time")

"""Settings classes: strict values, all faults at once, each with what is allowed."""

from __future__ import annotations

import enum
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.settings import (
    Fault,
    Faulty,
    Setting,
    about,
    describe,
    nearest,
    new_converter,
    setting,
    show,
)


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Inner:
    count: int = setting(1, "how many", min=1, max=10)


@attrs.frozen
class Outer:
    size_bytes: int = setting(4096, "how large", unit="bytes", min=1024, max=1024**3)
    wait_s: float = setting(1.0, "how long", unit="s", min=0, reload=True)
    share: float = setting(0.5, "how much", max=1)
    name: str = setting("x", "which")
    on: bool = setting(True, "whether")
    mode: Literal["fast", "safe"] = setting("fast", "how")
    colour: Colour = setting(Colour.RED, "paint")  # noqa: RUF009
    word: str = setting("one", "a choice", choices=["one", "two"])
    tags: tuple[str, ...] = setting((), "labels")
    numbers: list[int] = attrs.field(factory=list)
    maybe: int | None = setting(None, "optional", min=0)
    inner: Inner = attrs.field(factory=Inner)
    inners: tuple[Inner, ...] = setting((), "many")


def structure(tree: Any, cls: type = Outer) -> Any:
    return new_converter().structure(tree, cls)


def faults(tree: Any, cls: type = Outer) -> list[str]:
    with pytest.raises(Faulty) as caught:
        structure(tree, cls)
    return [fault.line("f") for fault in caught.value.faults]


def test_an_empty_table_gives_the_defaults() -> None:
    assert structure({}) == Outer()


def test_every_kind_of_value() -> None:
    tree = {
        "size_bytes": "64 MiB",
        "wait_s": 3,
        "share": 0.25,
        "name": "y",
        "on": False,
        "mode": "safe",
        "colour": "blue",
        "word": "two",
        "tags": ["a", "b"],
        "numbers": [1, 2],
        "maybe": 5,
        "inner": {"count": 2},
        "inners": [{"count": 3}, {}],
    }
    assert structure(tree) == Outer(
        size_bytes=64 * 1024**2,
        wait_s=3.0,
        share=0.25,
        name="y",
        on=False,
        mode="safe",
        colour=Colour.BLUE,
        word="two",
        tags=("a", "b"),
        numbers=[1, 2],
        maybe=5,
        inner=Inner(2),
        inners=(Inner(3), Inner(1)),
    )
    assert type(structure(tree).wait_s) is float


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"size_bytes": 1}, 'size_bytes: found 1, allowed a whole number of bytes or a size as '
                            '"4 MiB" from 1 KiB to 1 GiB'),
        ({"size_bytes": "4 MB"}, 'size_bytes: found "4 MB", allowed a whole number of bytes or a '
                                 'size as "4 MiB" from 1 KiB to 1 GiB'),
        ({"size_bytes": "2 GiB"}, 'size_bytes: found "2 GiB", allowed a whole number of bytes or a '
                                  'size as "4 MiB" from 1 KiB to 1 GiB'),
        ({"size_bytes": 4096.0}, 'size_bytes: found 4096.0, allowed a whole number of bytes or a '
                                 'size as "4 MiB" from 1 KiB to 1 GiB'),
        ({"wait_s": -0.5}, "wait_s: found -0.5, allowed a number (s) of at least 0"),
        ({"wait_s": float("nan")}, "wait_s: found nan, allowed a number (s) of at least 0"),
        ({"wait_s": float("inf")}, "wait_s: found inf, allowed a number (s) of at least 0"),
        ({"wait_s": "1"}, 'wait_s: found "1", allowed a number (s) of at least 0'),
        ({"share": 1.5}, "share: found 1.5, allowed a number of at most 1"),
        ({"name": 5}, "name: found 5, allowed text"),
        ({"name": ["x"]}, "name: found a list, allowed text"),
        ({"name": []}, "name: found an empty list, allowed text"),
        ({"on": 1}, "on: found 1, allowed true or false"),
        ({"on": "true"}, 'on: found "true", allowed true or false'),
        ({"mode": "saef"}, 'mode: found "saef", allowed "fast" or "safe" (did you mean "safe"?)'),
        ({"mode": 1}, 'mode: found 1, allowed "fast" or "safe"'),
        ({"colour": "green"}, 'colour: found "green", allowed "red" or "blue"'),
        ({"a\nb": 1}, r'"a\nb": found an unknown key, allowed size_bytes, wait_s, share, name, on, '
                      "mode, colour, word, tags, numbers, maybe, inner, inners"),
        ({"word": "three"}, 'word: found "three", allowed "one" or "two"'),
        ({"tags": "a"}, 'tags: found "a", allowed a list'),
        ({"tags": ["a", 1]}, "tags[1]: found 1, allowed text"),
        ({"numbers": [True]}, "numbers[0]: found true, allowed a whole number"),
        ({"maybe": -1}, "maybe: found -1, allowed a whole number of at least 0"),
        ({"inner": 3}, "inner: found 3, allowed a table"),
        ({"inner": {"count": 11}}, "inner.count: found 11, allowed a whole number from 1 to 10"),
        ({"inners": [{}, {"count": 0}]},
         "inners[1].count: found 0, allowed a whole number from 1 to 10"),
        ({"inners": {}}, "inners: found a table, allowed a list"),
        ({"inner": {"cuont": 1}},
         "inner.cuont: found an unknown key, allowed count (did you mean count?)"),
    ],
)  # fmt: skip
def test_a_fault_says_what_was_found_and_what_is_allowed(tree: Any, line: str) -> None:
    assert faults(tree) == [f"f: {line}"]


def test_all_faults_are_collected() -> None:
    tree = {"on": 1, "inner": {"count": 0, "x": 1}, "tags": [1, "a", 2], "bogus": 1}
    keys = [line.split(":")[1].strip() for line in faults(tree)]
    assert sorted(keys) == ["bogus", "inner.count", "inner.x", "on", "tags[0]", "tags[2]"]


def test_a_table_is_needed_at_the_top() -> None:
    assert faults([1]) == ["f: found a list, allowed a table"]


@attrs.frozen
class Picky:
    needed: int
    even: int = attrs.field(default=0)

    @even.validator
    def _check(self, _field: object, value: int) -> None:
        if value % 2:
            raise ValueError("an even number")


def test_classes_that_check_by_themselves_or_need_a_value() -> None:
    assert structure({"needed": 1, "even": 4}, Picky) == Picky(1, 4)
    assert faults({}, Picky) == ["f: needed: found nothing, allowed a value: it has no default"]
    assert faults({"needed": 1, "even": 3}, Picky) == [
        "f: found a value that does not do, allowed an even number"
    ]


def test_a_fault_seen_from_further_out() -> None:
    fault = Fault("", "1", "2").under("[3]").under("a")
    assert fault.key == "a[3]"
    assert fault.under("b").line("f") == "f: b.a[3]: found 1, allowed 2"


def test_long_and_odd_values_are_shown_short_and_on_one_line() -> None:
    assert len(show("x" * 1000)) == 80
    assert "\n" not in show("a\nb")
    assert "\x1b" not in show("\x1b[31m")
    assert show({"a": 1}) == "a table"


def test_the_nearest_name() -> None:
    assert nearest("Linger", ["linger_s", "bytes"]) == "linger_s"
    assert nearest("zzz", ["linger_s", "bytes"]) is None


def test_describe_lists_every_setting_with_its_metadata() -> None:
    described = {one.key: one for one in describe(Outer)}
    assert "inner.count" in described
    assert "inners[].count" in described
    assert described["wait_s"].setting == Setting("how long", unit="s", min=0, reload=True)
    assert described["maybe"].type is int
    assert described["numbers"].setting.help == ""
    assert about(attrs.fields(Inner).count).max == 10


_TOML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_KEYS = st.sampled_from([field.name for field in attrs.fields(Outer)]) | st.text()


@given(st.dictionaries(_KEYS, _TOML, max_size=5))
def test_no_tree_gives_anything_but_an_object_or_faults(tree: dict[str, Any]) -> None:
    try:
        assert isinstance(structure(tree), Outer)
    except Faulty as error:
        lines = [fault.line("f") for fault in error.faults]
        assert lines
        assert not any("\n" in line for line in lines)

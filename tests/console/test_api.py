"""The console's API on a daemon over memory: documents, dead letters, and who may redrive."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import trio
import trio.testing

from streamer.console.answers import encoded
from streamer.console.letters import LETTERS_MAX, PREVIEW_BYTES, preview
from tests.console.kit import OWN, Console, bury, open_console

Clock = trio.testing.MockClock
ACTIONS: Any = {"actions": True}


async def test_documents(autojump_clock: Clock) -> None:
    async with open_console() as console, console.site.client() as client:
        async with client.producer("orders") as producer:
            await producer.send(b"one")
        await trio.sleep(12)
        overview = (await console.get("/api/overview")).json
        assert [each["name"] for each in overview["streams"]] == ["orders"]
        assert overview["console"] == {"actions": False, "dead_letters": 0}
        history = (await console.get("/api/history")).json
        times = history["fine"]["at_us"]
        assert len(times) > 5
        events = (await console.get("/api/events")).json
        assert "stream_created" in {each["kind"] for each in events["events"]}
        assert (await console.get("/api/events", after=events["next"])).json["events"] == []
        keys = {each["key"]: each for each in (await console.get("/api/config")).json}
        assert keys["console.actions"]["value"] is False
        stream = (await console.get("/api/stream", stream="orders")).json
        assert stream["partitions"][0]["high_water"] == 1


async def test_a_page_that_has_some_history_gets_the_rest(autojump_clock: Clock) -> None:
    async with open_console() as console:
        console.site.daemon.sampler.history.add(1_000_000, {"cpu": 0.5})
        console.site.daemon.sampler.history.add(2_000_000, {"cpu": 0.7})
        fine = (await console.get("/api/history", after_us=1_000_000)).json["fine"]
        assert fine["at_us"][0] == 2_000_000
        assert fine["series"]["cpu"][0] == 0.7


async def test_pollers_share_an_overview(autojump_clock: Clock) -> None:
    async with open_console() as console:
        first = await console.get("/api/overview")
        assert (await console.get("/api/overview")).body is first.body
        await trio.sleep(3)
        assert (await console.get("/api/overview")).body is not first.body


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("/api/stream", {"stream": "nope"}, 404, "nope"),
        ("/api/stream", {}, 400, "missing"),
        ("/api/group", {"stream": "s", "group": "g"}, 404, "s"),
        ("/api/dead", {"stream": "nope"}, 404, "nope"),
        ("/api/events", {"after": "-1"}, 400, "after"),
        ("/api/history", {"after_us": "1e3"}, 400, "after_us"),
        ("/api/dead", {"stream": "s", "from": "9" * 20}, 400, "from"),
    ],
)
async def test_questions_that_are_refused(
    autojump_clock: Clock, path: str, query: dict[str, str], status: int, text: str
) -> None:
    async with open_console() as console:
        answer = await console.get(path, **query)
        assert answer.status == status
        assert text in answer.json["message"]


async def test_a_host_that_may_be_anybodys_gets_nothing(autojump_clock: Clock) -> None:
    async with open_console(daemon={"origins": ["https://ops.example.org"]}) as console:
        for path in ("/api/overview", "/api/dead", "/api/config"):
            answer = await console.get(path, {"host": "evil.example"})
            assert (answer.status, answer.json["error"]) == (403, "not_allowed")
            assert (await console.get(path, {"host": "ops.example.org"})).status == 200


async def test_the_page_and_where_a_browser_is_sent(autojump_clock: Clock) -> None:
    async with open_console() as console:
        page = await console.get("/console")
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
        again = await console.get("/console", {"if-none-match": page.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        for path in ("/console/nope.js", "/console/..%2fguards.py", "/console/__init__.py"):
            assert (await console.get(path)).status == 404
        sent = await console.get("/", {"accept": "text/html,*/*"})
        assert (sent.status, sent.headers["location"]) == (307, "/console")
        assert b"/console\n" in (await console.get("/", {"accept": "*/*"})).body


# ------------------------------------------------------------------------------ dead letters


async def test_dead_letters_as_a_page(autojump_clock: Clock) -> None:
    async with open_console() as console, console.site.client() as client:
        await bury(client, "s", [b"<b>one</b>", b"\xff\x00", b"x" * 5000], "<img src=x>")
        await bury(client, "t", [b"other"])
        await trio.sleep(3)
        assert (await console.get("/api/dead")).json == {
            "waiting": 4,
            "streams": [{"stream": "s", "waiting": 3}, {"stream": "t", "waiting": 1}],
        }
        found = (await console.get("/api/dead", stream="s")).json
        assert found["partitions"] == [{"partition": 0, "waiting": 3, "end": 3}]
        assert (found["next"], found["actions"]) == (None, False)
        letter, binary, large = found["letters"]
        assert (letter["reason"], letter["error"], letter["group"]) == ("term", "<img src=x>", "g")
        assert letter["value"]["text"] == "<b>one</b>"
        assert binary["value"] == {"bytes": 2, "text": "\\xff\x00", "base64": "/wA="}
        assert (large["value"]["bytes"], len(large["value"]["text"])) == (5000, PREVIEW_BYTES)


async def test_many_dead_letters_are_several_pages(autojump_clock: Clock) -> None:
    count = 2 * LETTERS_MAX + 50
    async with open_console() as console, console.site.client() as client:
        await bury(client, "s", [b"%d" % number for number in range(count)])
        await trio.sleep(3)
        first, values = 0, []
        for size in (LETTERS_MAX, LETTERS_MAX, 50):
            found = (await console.get("/api/dead", stream="s", **{"from": first})).json
            values += [letter["value"]["text"] for letter in found["letters"]]
            assert len(found["letters"]) == size
            first = found["next"]
        assert first is None
        assert values == [str(number) for number in range(count)]


async def redriven(console: Console, document: Any) -> Any:
    answer = await console.post("/api/redrive", document)
    assert answer.status == 200, answer.body
    return answer.json


async def test_redrive_chosen_and_all(autojump_clock: Clock) -> None:
    async with open_console(console=ACTIONS) as console, console.site.client() as client:
        await bury(client, "s", [b"%d" % number for number in range(10)])
        assert await redriven(console, {"stream": "s", "ranges": [0, 1, 4, 6]}) == {
            "redriven": 3,
            "left": 0,
        }
        # What came later than the page has seen is not meant.
        assert await redriven(console, {"stream": "s", "end": 8}) == {"redriven": 5, "left": 0}
        found = (await console.get("/api/dead", stream="s")).json
        assert [letter["offset"] for letter in found["letters"]] == [8, 9]
        assert await redriven(console, {"stream": "s", "end": 8}) == {"redriven": 0, "left": 0}
        values = []
        async with client.reader("s", start="earliest", follow=False) as reader:
            async for batch in reader:
                values += batch.values
        assert sorted(values[10:]) == [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"]


async def test_redrive_is_refused_unless_the_config_allows_it(autojump_clock: Clock) -> None:
    async with open_console() as console, console.site.client() as client:
        await bury(client, "s", [b"one"])
        answer = await console.post("/api/redrive", {"stream": "s", "end": 1})
        assert answer.status == 403
        assert "[console] actions" in answer.json["message"]
        found = (await console.get("/api/dead", stream="s")).json
        assert len(found["letters"]) == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"x-streamer-console": ""}, 403),
        ({"host": "evil.example", "origin": "http://evil.example"}, 403),
        ({"content-type": "text/plain"}, 400),
        ({"content-type": "application/x-www-form-urlencoded"}, 400),
    ],
)
async def test_redrive_is_for_our_own_page(
    autojump_clock: Clock, changes: dict[str, str], status: int
) -> None:
    async with open_console(console=ACTIONS) as console, console.site.client() as client:
        await bury(client, "s", [b"one"])
        document = {"stream": "s", "end": 1}
        answer = await console.post("/api/redrive", document, {**OWN, **changes})
        assert answer.status == status
        assert (await redriven(console, document))["redriven"] == 1


async def test_redrive_takes_small_json_objects_by_post(autojump_clock: Clock) -> None:
    async with open_console(console=ACTIONS) as console:
        for body, status in [
            (b"{", 400),
            (b"[1]", 400),
            (b"[" * 30_000, 400),
            (json.dumps({"stream": "s" * 70_000, "end": 1}).encode(), 413),
            ({"stream": "nope", "end": 1}, 404),
        ]:
            assert (await console.post("/api/redrive", body)).status == status, body[:20]
        assert (await console.get("/api/redrive", OWN)).status == 405
        assert (await console.post("/api/overview", {})).status in (405, 413)


def test_previews_end_at_a_character() -> None:
    data = b"a" + "é".encode() * PREVIEW_BYTES
    shown = preview(data)
    assert shown["text"] == "a" + "é" * (PREVIEW_BYTES // 2 - 1)
    assert preview("é".encode()[:1])["text"] == "\\xc3"


def test_json_that_a_browser_reads() -> None:
    document = {"a": [math.nan, 1.5, math.inf], "b": b"\xff", "c": {"d": -math.inf}}
    assert json.loads(encoded(document)) == {
        "a": [None, 1.5, None],
        "b": {"text": "\\xff", "base64": "/w=="},
        "c": {"d": None},
    }

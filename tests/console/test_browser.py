"""The console in a real browser, before a real daemon."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

import streamer.sync
from streamer.console.assets import read_assets
from streamer_tools.own_daemon import OwnDaemon, own_daemon, start
from tests.console.conftest import Browser

VIEWS = (
    "overview", "pipelines", "streams", "groups", "dead", "sessions", "events", "levels", "config",
)  # fmt: skip
HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>'


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("console") / "streamer.toml"
    allow(path, True)
    return path


def allow(config: Path, actions: bool) -> None:
    config.write_text(f"[console]\nactions = {str(actions).lower()}\n")


@pytest.fixture(scope="module")
def daemon(config: Path) -> Iterator[OwnDaemon]:
    with own_daemon(arguments=["--config", str(config)]) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_to_complain_of(browser: Browser) -> Iterator[None]:
    browser.size(1280, 900)
    yield
    assert browser.errors() == []


def page(daemon: OwnDaemon, view: str) -> str:
    return f"{daemon.http}/console#{view}"


def bury(daemon: OwnDaemon, stream: str, values: list[bytes], error: str) -> None:
    """Records that die in the group `workers`."""
    with streamer.sync.connect(daemon.url(), name=HOSTILE) as client:
        with client.producer(stream) as producer:
            producer.send_batch(values)
        with client.consumer(stream, group="workers") as consumer:
            left = len(values)
            for message in consumer.messages():
                message.term(error)
                left -= 1
                if not left:
                    return


def values_of(daemon: OwnDaemon, stream: str) -> list[bytes]:
    with (
        streamer.sync.connect(daemon.url()) as client,
        client.reader(stream, start="earliest", follow=False) as reader,
    ):
        return [value for batch in reader for value in batch.values]


@contextmanager
def records_flowing(daemon: OwnDaemon, stream: str) -> Iterator[None]:
    """Produce until the block is left."""
    ending = threading.Event()

    def produce() -> None:
        with streamer.sync.connect(daemon.url()) as client, client.producer(stream) as producer:
            while not ending.wait(0.02):
                producer.send_batch([b"x" * 100] * 10)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


# ------------------------------------------------------------------------------------ looking


def test_every_view_loads_and_asks_nobody_but_the_daemon(
    browser: Browser, daemon: OwnDaemon
) -> None:
    browser.asked_for()
    browser.open(f"{daemon.http}/")
    browser.until(lambda: "Nothing needs attention" in browser.text("main"), "a calm overview")
    for view in VIEWS:
        browser.click(f'.nav a[href="#{view}"]')
        browser.until(lambda: browser.all(".panel h2"), f"something in {view}")
        assert "cannot be shown" not in browser.text("main"), view
    browser.until(lambda: "console.actions" in browser.text("main"), "the settings")
    asked = browser.asked_for()
    assert asked
    assert {url for url in asked if not url.startswith(f"{daemon.http}/")} == set()
    assert not [url for url in asked if "/console/" in url and "?" in url]


def test_numbers_move_while_records_flow(browser: Browser, daemon: OwnDaemon) -> None:
    browser.open(page(daemon, "overview"))
    with records_flowing(daemon, "flow"):
        browser.until(lambda: tile(browser, "Records in") > 100, "a rate")
        lines = browser.run("return document.querySelector('.chart .line').getAttribute('d')")
        first = tile(browser, "Records in")
        browser.until(lambda: tile(browser, "Records in") != first, "another rate")
        browser.until(
            lambda: lines != browser.run(
                "return document.querySelector('.chart .line').getAttribute('d')"
            ),
            "a chart that goes on",
        )  # fmt: skip
        browser.click('.nav a[href="#pipelines"]')
        browser.until(
            lambda: float(browser.text(".stage-rates span").split()[0].replace(",", "")) > 0,
            "items through ingest",
        )
        browser.click('.nav a[href="#streams"]')
        browser.click(".fold-button")
        browser.until(lambda: "High water" in browser.text(".opened"), "the partitions")


def tile(browser: Browser, label: str) -> float:
    for each in browser.all(".tile"):
        if each.text.startswith(label):
            return float(each.text.splitlines()[1].split("/")[0].replace(",", ""))
    raise AssertionError(f"there is no tile {label}")


def test_names_and_values_stay_text(browser: Browser, daemon: OwnDaemon) -> None:
    bury(daemon, "hostile", [HOSTILE.encode(), b"\xe2\x80\xaegpj.exe"], HOSTILE)
    with streamer.sync.connect(daemon.url(), name=HOSTILE) as client:
        assert client.streams()
        browser.open(page(daemon, "sessions"))
        browser.until(lambda: HOSTILE in browser.text("main"), "the session's name")
        browser.click('.nav a[href="#events"]')
        browser.until(lambda: HOSTILE in browser.text("main"), "the name in events")
    browser.open(page(daemon, "dead?hostile"))
    browser.until(lambda: browser.text("main").count(HOSTILE) >= 3, "the letter's value and error")
    assert "\\u{202e}gpj.exe" in browser.text("main"), "what turns a line around is written out"
    browser.click(".fold-button")
    browser.until(lambda: browser.all(".opened pre"), "the whole letter")
    assert browser.run("return window.hurt") is None
    assert browser.run("return document.querySelectorAll('main img, main script').length") == 0


# ------------------------------------------------------------------------------------- acting


def test_redrive_from_the_page(browser: Browser, daemon: OwnDaemon) -> None:
    bury(daemon, "mails", [b"one", b"two", b"three"], "no such address")
    browser.open(page(daemon, "dead?mails"))
    browser.until(lambda: len(browser.all("tbody .check")) == 3, "three letters")
    assert "no such address" in browser.text("main")
    browser.click("tbody .check")
    browser.click(".actions button", "Redrive 1 chosen")
    browser.until(lambda: "1 letter" in browser.text("dialog"), "the question")
    browser.click("dialog button", "Cancel")
    browser.until(lambda: not browser.all("dialog"), "the question to be gone")
    assert values_of(daemon, "mails") == [b"one", b"two", b"three"]
    browser.click(".actions button", "Redrive 1 chosen")
    browser.click("#confirm-yes")
    browser.until(lambda: "1 letter sent again" in browser.text(".said"), "one sent again")
    browser.until(lambda: len(browser.all("tbody .check")) == 2, "two letters")
    assert values_of(daemon, "mails") == [b"one", b"two", b"three", b"one"]
    browser.click(".actions button", "Redrive all 2")
    browser.click("#confirm-yes")
    browser.until(lambda: "2 letters sent again" in browser.text(".said"), "two sent again")
    browser.until(lambda: "were settled" in browser.text("main"), "no letters any more")
    assert values_of(daemon, "mails")[3:] == [b"one", b"two", b"three"]


def test_without_leave_it_only_shows(browser: Browser, daemon: OwnDaemon, config: Path) -> None:
    bury(daemon, "shown", [b"one"], "bad")
    allow(config, False)
    daemon.process.send_signal(signal.SIGHUP)
    try:
        browser.open(page(daemon, "dead?shown"))
        browser.until(lambda: "read-only" in browser.text("main"), "that it is read-only")
        browser.until(lambda: "bad" in browser.text("table"), "the letter")
        assert not browser.all("main .check, .actions")
        # Nor by hand: the daemon is who refuses.
        status = browser.run(
            "return fetch('/api/redrive', {method: 'POST', body: arguments[0], headers: "
            "{'content-type': 'application/json', 'x-streamer-console': '1'}})"
            ".then(answer => answer.status)",
            '{"stream": "shown", "end": 1}',
        )
        assert status == 403
        [complaint] = browser.errors()
        assert "403" in complaint
    finally:
        allow(config, True)
        daemon.process.send_signal(signal.SIGHUP)


# ---------------------------------------------------------------------------- hard conditions


def test_it_goes_on_when_the_daemon_was_away(browser: Browser, tmp_path: Path) -> None:
    arguments: list[str] = []
    first = start(tmp_path / "data", Path(f"/tmp/streamer-{os.getpid()}.sock"), arguments)
    try:
        assert first.http is not None
        browser.open(page(first, "overview"))
        browser.until(lambda: str(first.pid) in browser.text("#about"), "the daemon")
        first.kill()
        browser.until(lambda: "has been away" in browser.text(".banner"), "that it is away")
        arguments += ["--http", first.http.removeprefix("http://")]
        second = start(tmp_path / "data", Path(f"/tmp/streamer-{os.getpid()}.sock"), arguments)
    finally:
        first.kill()
    try:
        browser.until(lambda: str(second.pid) in browser.text("#about"), "the other daemon")
        assert not browser.all(".banner")
    finally:
        second.kill()
    assert all("ERR_CONNECTION" in each for each in browser.errors())


def test_a_tab_that_nobody_sees_asks_for_nothing(browser: Browser, daemon: OwnDaemon) -> None:
    browser.open(page(daemon, "overview"))
    browser.until(lambda: browser.all(".tile"), "the page")
    see = (
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => arguments[0]});"
        "document.dispatchEvent(new Event('visibilitychange'));"
        "return document.querySelector('.clock').textContent"
    )
    browser.run(see.replace("arguments[0]", "true"))
    # A poll may have been under way; after that there is none for more than two of its periods.
    browser.pause(1000)
    browser.asked_for()
    browser.pause(2100)
    assert browser.asked_for() == set()
    shown = browser.run(see.replace("arguments[0]", "false"))
    browser.until(lambda: browser.text(".clock") != shown, "that it goes on")


def test_a_phone_need_not_scroll_sideways(browser: Browser, daemon: OwnDaemon) -> None:
    long = "a-" * 80 + "stream"
    bury(daemon, long, [b"0123456789" * 50], "x" * 500)
    browser.size(360, 740, mobile=True)
    browser.open(page(daemon, "overview"))
    for view in VIEWS:
        browser.show(f"dead?{long}" if view == "dead" else view)
        if view in ("streams", "groups", "dead"):
            browser.until(lambda: browser.all("td"), f"rows in {view}")
            browser.click(".fold-button")
            browser.until(lambda: browser.all(".opened"), f"an open row in {view}")
        width = browser.run("return document.documentElement.scrollWidth")
        assert width == 360, view


#: The text elements whose contrast is below AA, by what they are and the ratio.
_CONTRAST = """
const luminance = (color) => {
  const [r, g, b] = color.map((each) => {
    const part = each / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] > 0.5) return color.slice(0, 3);
  }
  return [255, 255, 255];
};
const bad = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
  const style = getComputedStyle(node);
  const paint = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
  const [one, other] = [luminance(parse(paint).slice(0, 3)), luminance(behind(node))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) bad.add(`${node.tagName} ${node.className} ${ratio.toFixed(2)}`);
}
return [...bad];
"""


def test_dark_and_light_can_be_read_and_chosen(browser: Browser, daemon: OwnDaemon) -> None:
    backs = {}
    browser.open(page(daemon, "overview"))
    for scheme in ("dark", "light"):
        browser.scheme(scheme)
        for view in ("overview", "pipelines", "dead", "events"):
            browser.show(view)
            assert browser.run(_CONTRAST) == [], (scheme, view)
        backs[scheme] = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert backs["dark"] != backs["light"]
    # The system says light; what is chosen here counts more, and is kept.
    browser.click(".theme")
    browser.click(".theme")
    browser.open(page(daemon, "overview"))
    browser.until(lambda: browser.all(".tile"), "the page")
    found = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert found == backs["dark"]
    browser.click(".theme")


def test_by_keyboard(browser: Browser, daemon: OwnDaemon) -> None:
    browser.open(page(daemon, "events"))
    browser.until(lambda: browser.all("input[type=search]"), "the filter")
    body = browser.driver.find_element(By.TAG_NAME, "body")
    body.send_keys("/")
    focused = browser.driver.switch_to.active_element
    assert focused.get_attribute("type") == "search"
    focused.send_keys("stream_created")
    browser.until(lambda: browser.all(".event"), "events like that")
    browser.until(
        lambda: {each.text for each in browser.all(".event .kind")} == {"stream_created"},
        "only events like that",
    )
    # It is still there after polls: typing goes on where it was.
    assert browser.driver.switch_to.active_element.get_attribute("value") == "stream_created"


def test_a_daemon_that_says_less(browser: Browser) -> None:
    rows = {name: [{}] for name in ("pipelines", "streams", "groups")}
    with other_daemon({**rows, "sessions": {}, "sla": {}, "rates": {"records_in": "?"}}) as url:
        browser.open(f"{url}/console")
        for view in VIEWS:
            browser.show(view)
            assert "cannot be shown" not in browser.text("main"), view


def test_a_daemon_that_means_something_else(browser: Browser) -> None:
    with other_daemon({"streams": [None], "groups": 5, "console": None}) as url:
        browser.open(f"{url}/console")
        browser.show("streams")
        assert "cannot be shown" in browser.text("main")
        # The others do not suffer from it.
        browser.show("sessions")
        browser.until(lambda: "Nobody is connected" in browser.text("main"), "another view")


@contextmanager
def other_daemon(overview: dict[str, Any]) -> Iterator[str]:
    """The page before a daemon that knows little: its answers are empty but for the overview."""
    assets = read_assets()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/console").strip("/") or "index.html"
            asset = assets.get(name)
            body = json.dumps(overview if name == "api/overview" else {}).encode()
            self.send_response(200)
            for key, value in (asset.headers if asset else {"content-type": "text/json"}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(asset.body if asset else body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

"""A real Chromium without a window, and a daemon to look at.

Rules: one browser and one daemon for a module, since each takes a second or more to start. The
browser's driver is the system's own and its path is given, so nothing is ever downloaded. Without a
Chromium the tests are skipped, and in CI they fail: a page that nobody looked at is not tested.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

#: Far above what anything takes; only a hang gets there.
TIMEOUT_S = 30
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip


@attrs.frozen
class Browser:
    """The browser, and what the tests ask of it."""

    driver: webdriver.Chrome

    def open(self, url: str) -> None:
        """Load a page anew, even where only the part behind the # differs."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def show(self, view: str) -> None:
        """Turn to another view of the page that is open."""
        self.run("location.hash = arguments[0]", view)
        current = f'.nav a[href="#{view.partition("?")[0]}"][aria-current]'
        self.until(lambda: self.all(current) and self.all(".panel h2"), f"the view {view}")

    def until(self, look: Callable[[], T], what: str) -> T:
        """What `look` gives once it gives something; elements may go away meanwhile."""
        wait = WebDriverWait(self.driver, TIMEOUT_S, 0.05, ignored_exceptions=[Exception])
        return wait.until(lambda _: look(), f"{what}; the page says: {self.text('body')[:2000]}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        found = self.all(selector)
        return found[0].text if found else ""

    def click(self, selector: str, text: str = "") -> None:
        """Click what has the selector and the text, once it can be clicked."""

        def try_it() -> bool:
            for element in self.all(selector):
                if text in element.text and element.is_displayed() and element.is_enabled():
                    element.click()
                    return True
            return False

        self.until(try_it, f"{selector} {text!r} to click")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def pause(self, milliseconds: int) -> None:
        """Let the page's time pass: for what must not happen in it."""
        self.driver.set_script_timeout(TIMEOUT_S)
        self.driver.execute_async_script("setTimeout(arguments[1], arguments[0])", milliseconds)

    def errors(self) -> list[str]:
        """What the browser complained of since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_for(self) -> set[str]:
        """The addresses of all requests since it was asked last, but for what the browser has."""
        urls = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.add(message["params"]["request"]["url"])
        return {url for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))}

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
        )

    def scheme(self, scheme: str) -> None:
        """What the system prefers: dark or light."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _programs() -> tuple[str, str]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium and driver:
        return chromium, driver
    missing = "chromium and chromedriver are needed (apt-get install chromium chromium-driver)"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, path = _programs()
    profile: Path = tmp_path_factory.mktemp("chromium")
    options = Options()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(path))
    try:
        yield Browser(driver)
    finally:
        driver.quit()

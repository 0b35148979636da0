"""The files of the page: whole, from nowhere else, and nothing that makes markup of text."""

from __future__ import annotations

import re

import pytest

from streamer.console.assets import INDEX, read_assets

ASSETS = read_assets()
SCRIPTS = {name: asset.body.decode() for name, asset in ASSETS.items() if name.endswith(".js")}
TEXTS = {name: asset.body.decode() for name, asset in ASSETS.items()}


def test_whatever_is_named_is_there() -> None:
    named = set(re.findall(r'(?:href|src)="/console/([^"]+)"', TEXTS[INDEX]))
    for text in SCRIPTS.values():
        named |= set(re.findall(r'from "\./([^"]+)"', text))
        named |= set(re.findall(r'"/console/([^"]+)"', text))
    assert named | {INDEX} == set(ASSETS), "all that is named is there, and all there is named"


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    found = set(re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]+[^\s\"']*", TEXTS[name]))
    # The name of a namespace, which nobody fetches.
    assert found <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in TEXTS[name]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_text_stays_text(name: str) -> None:
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        code = re.sub(r"^\s*//.*$", "", SCRIPTS[name], flags=re.MULTILINE)
        assert way not in code, way


def test_the_markup_has_no_script_and_no_style() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", TEXTS[INDEX])


def test_it_is_small() -> None:
    assert sum(len(asset.body) for asset in ASSETS.values()) < 150 * 1024
    for name, text in TEXTS.items():
        lines = text.splitlines()
        assert len(lines) <= 400, name


def test_what_goes_out_with_it() -> None:
    for asset in ASSETS.values():
        policy = asset.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert asset.headers["x-content-type-options"] == "nosniff"
        assert asset.etag.startswith('"')

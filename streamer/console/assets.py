"""The files of the page, read once, and the headers that they go out with.

Rules: only what lies in `page/` is served, by its name there: a request's path never becomes a path
of the file system. Browsers ask each time whether a file has changed (a newer daemon brings a newer
page), and are told so by its hash. The policy allows what comes from the daemon itself and no
script or style in the markup, so that a stream's name that got past the escaping would still be
text.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import attrs

INDEX = "index.html"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: Of everything that goes to a browser.
SAFE = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@attrs.frozen
class Asset:
    """A file of the page."""

    body: bytes
    headers: dict[str, str]

    @property
    def etag(self) -> str:
        return self.headers["etag"]


def read_assets() -> dict[str, Asset]:
    """All files of the page by name."""
    folder = resources.files(__package__).joinpath("page")
    return {
        entry.name: _asset(entry.name, entry.read_bytes())
        for entry in folder.iterdir()
        if entry.is_file() and _ending(entry.name) in _TYPES
    }


def _asset(name: str, body: bytes) -> Asset:
    headers = {
        "content-type": _TYPES[_ending(name)],
        "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        "cache-control": "no-cache",
        "content-security-policy": _POLICY,
        "cross-origin-opener-policy": "same-origin",
        **SAFE,
    }
    return Asset(body, headers)


def _ending(name: str) -> str:
    return name.rpartition(".")[2]

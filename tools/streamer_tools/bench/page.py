"""The report for people: one page with plots, with no request to anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render(document: Mapping[str, Any]) -> str:
    """The page as HTML."""
    return str(document)

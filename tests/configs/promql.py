"""What a PromQL expression names: metrics with the labels that it asks of them, and labels alone.

Not a parser: promtool is that. It takes out what is no name, and what is left are metrics.
"""

from __future__ import annotations

import re

import attrs

_STRING = r'"(?:[^"\\]|\\.)*"'
_SELECTOR = re.compile(rf"([a-z_:][a-z0-9_:]*)\s*\{{((?:[^{{}}\"]|{_STRING})*)\}}", re.IGNORECASE)
_MATCHER = re.compile(rf"([a-z_]\w*)\s*(=~|!~|!=|=)\s*({_STRING})", re.IGNORECASE)
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w.])[a-z_:][a-z0-9_:]*\b(?!\s*\()", re.IGNORECASE)
_WORDS = frozenset({"and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"})


@attrs.frozen
class Named:
    """What an expression names."""

    #: (metric, {label: (operator, value)}), for each time that it is named.
    metrics: list[tuple[str, dict[str, tuple[str, str]]]]
    #: Of `by (...)`, `on (...)` and the like.
    labels: set[str]


def named_in(expression: str) -> Named:
    """The names in a PromQL expression."""
    metrics: list[tuple[str, dict[str, tuple[str, str]]]] = []
    labels: set[str] = set()

    def selector(match: re.Match[str]) -> str:
        matchers = {m[1]: (m[2], m[3][1:-1]) for m in _MATCHER.finditer(match[2])}
        metrics.append((match[1], matchers))
        return " "

    def list_of_labels(match: re.Match[str]) -> str:
        labels.update(label.strip() for label in match[1].split(",") if label.strip())
        return " "

    rest = _SELECTOR.sub(selector, expression)
    rest = _LABELS.sub(list_of_labels, _RANGE.sub(" ", rest))
    for match in _NAME.finditer(rest):
        if match[0] not in _WORDS:
            metrics.append((match[0], {}))
    return Named(metrics, labels)

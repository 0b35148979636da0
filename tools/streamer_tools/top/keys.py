"""From the bytes that a terminal sends to the names of keys.

Rules: `feed` takes bytes as they come, cut anywhere. An escape byte may be the key or the beginning
of a sequence; only time tells, so what is still open is kept until `flush`, which the caller does
when nothing came for `ESCAPE_S`. Sequences that are not known are dropped whole: they must not
become keys.
"""

from __future__ import annotations

import codecs
import re

#: How long the rest of a sequence may take. Over a slow line the parts of one come apart.
ESCAPE_S = 0.1
#: A sequence is short; what goes on for longer is rubbish.
_SEQUENCE_MAX = 32

_CONTROL = {
    "\r": "enter", "\n": "enter", "\t": "tab", " ": "space", "\x7f": "backspace",
    "\x08": "backspace", "\x0c": "ctrl-l", "\x15": "ctrl-u",
}  # fmt: skip
_SEQUENCES = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "Z": "backtab",
    "1~": "home", "7~": "home", "4~": "end", "8~": "end", "5~": "pageup", "6~": "pagedown",
}  # fmt: skip
#: A whole sequence, one that may become whole, by their kinds: CSI and SS3.
_WHOLE = re.compile(r"\x1b(?:\[([0-?]*)[ -/]*([@-~])|O(.))", re.DOTALL)
_OPEN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?", re.DOTALL)


class Keys:
    """Decodes what one terminal sends."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""

    @property
    def open(self) -> bool:
        """Whether a sequence has begun that is not whole."""
        return bool(self._open)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole now."""
        text = self._open + self._text.decode(data)
        self._open = ""
        keys: list[str] = []
        while text:
            if text[0] != "\x1b":
                keys += _plain(text[0])
                text = text[1:]
            elif whole := _WHOLE.match(text):
                keys += _sequence(whole)
                text = text[whole.end() :]
            elif _OPEN.fullmatch(text) and len(text) <= _SEQUENCE_MAX:
                self._open, text = text, ""
            else:
                keys.append("esc")
                text = text[1:]
        return keys

    def flush(self) -> list[str]:
        """What was open, as nothing more comes of it: an escape by itself is the key."""
        text, self._open = self._open, ""
        return ["esc"] if text == "\x1b" else []


def _plain(character: str) -> list[str]:
    if character in _CONTROL:
        return [_CONTROL[character]]
    return [character] if character.isprintable() else []


def _sequence(whole: re.Match[str]) -> list[str]:
    parameters, final, of_ss3 = whole.groups()
    if of_ss3 is not None:
        return [_SEQUENCES[of_ss3]] if of_ss3 in _SEQUENCES else []
    # Modifiers (`1;5A`) are as good as none.
    first = parameters.partition(";")[0]
    name = _SEQUENCES.get(f"{first}~" if final == "~" else final)
    return [name] if name else []

"""Changes of a configuration as text: comments and order of the user's file stay as they are.

Rules: a value is written as the file's own reference writes it, so sizes are texts such as "4 MiB".
What is written has been read back and checked as `streamer check` does; a file is replaced whole or
not at all.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path as File
from typing import Any

import tomlkit
from tomlkit.items import InlineTable

from streamer.config import Config
from streamer.config_load import EMBEDDED, parse_toml, structure_config
from streamer.pipeline.registry import Registry
from streamer.settings import Setting, number_text
from streamer_tools.tune.space import Path, Value


def changed(text: str, changes: Mapping[Path, tuple[Value | str, str]]) -> str:
    """The TOML with some settings changed: path to value and unit. Tables that are not there are
    made; `text` must be TOML, and tables where the paths need them."""
    if not changes:
        return text
    document = tomlkit.parse(text)
    for path, (value, unit) in changes.items():
        holder: Any = document
        for key, following in pairwise(path):
            holder = _inner(holder, key, following)
        holder[path[-1]] = _item(value, unit)
    return tomlkit.dumps(document)


def _inner(holder: Any, key: str | int, following: str | int) -> Any:
    if isinstance(key, int):
        # The pipeline that a file leaves out.
        if not holder:
            holder.append(tomlkit.table())
        return holder[key]
    if key not in holder:
        if isinstance(following, int):
            holder[key] = tomlkit.aot()
        elif isinstance(holder, InlineTable):
            holder[key] = tomlkit.inline_table()
        else:
            holder[key] = tomlkit.table()
    return holder[key]


def _item(value: Value | str, unit: str) -> Any:
    if isinstance(value, str) or unit != "bytes":
        return value
    text = number_text(value, Setting("", unit=unit))
    return text if " " in text else value


def alone(text: str) -> str:
    """The same configuration for a daemon that is only measured: its traces go to nobody."""
    if not parse_toml(text.encode(), EMBEDDED).get("trace", {}).get("otlp_endpoint"):
        return text
    return changed(text, {("trace", "otlp_endpoint"): ("", "")})


def diff(before: str, after: str, before_name: str, after_name: str) -> str:
    """A unified diff; "" where they are alike."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), before_name, after_name, lineterm="", n=2
    )
    return "\n".join(lines)


def checked(text: str, registry: Registry, file: str | None) -> Config:
    """The configuration that the text is.

    Raises:
        ConfigError: `streamer check` would refuse it.
    """
    name = file or EMBEDDED
    return structure_config(parse_toml(text.encode(), name), registry, name)


def write(path: str, text: str) -> None:
    """Put the text into a file, whole or not at all; the rights of a file that is there stay.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    file = File(path)
    # Through a link the file itself is replaced, and the link stays.
    target = file.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text.encode())
            opened.flush()
            os.fchmod(opened.fileno(), mode)
            os.fsync(opened.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise

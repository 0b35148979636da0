"""Check what a wheel installs at the top level: our three packages and its own metadata.

A stray `tests` or `plugins` there would shadow other people's modules.
"""

from __future__ import annotations

import sys
import zipfile

EXPECTED = {"streamer", "streamer_plugins", "streamer_tools"}


def main(path: str) -> None:
    with zipfile.ZipFile(path) as wheel:
        top = {name.split("/")[0] for name in wheel.namelist()}
    found = {name for name in top if not name.endswith(".dist-info")}
    if found != EXPECTED:
        sys.exit(f"{path} installs {sorted(found)} at the top level, expected {sorted(EXPECTED)}")
    print(f"{path}: {', '.join(sorted(found))}")


if __name__ == "__main__":
    main(*sys.argv[1:])

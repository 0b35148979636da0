"""The clean marker: what a partition writes when it is closed, and finds when it is opened.

It says where the log ends, so that the next start need not prove it, and holds what is known of
the last segment. It is true only while nothing is appended, so it is removed, durably, before the
first append after a start.
"""

from __future__ import annotations

import attrs

from streamer.errors import StorageDamaged
from streamer.storage import sidecar
from streamer.storage.files import Files

_NAME = "clean"
_KIND = "clean"


@attrs.frozen
class Marker:
    """Where the log ends: at `end_offset`, `nbytes` into the segment of `base_offset`.

    `vouched` is the offset below which batches in the log say that all was durable. `index` and
    `producers` are the last segment's index and the producer table as bytes.
    """

    base_offset: int
    end_offset: int
    nbytes: int
    vouched: int
    index: bytes
    producers: bytes


def marker_path(directory: str) -> str:
    return f"{directory}/{_NAME}"


def write_marker(files: Files, directory: str, marker: Marker) -> None:
    """Write it durably.

    Raises:
        OSError: there is none now, or an older one.
    """
    content = attrs.asdict(marker)
    files.replace(marker_path(directory), sidecar.pack(_KIND, content))


def read_marker(files: Files, directory: str) -> Marker | None:
    """The marker, or None where there is none that can be trusted.

    Raises:
        OSError: the disk is at fault.
    """
    try:
        content = sidecar.unpack(_KIND, files.read(marker_path(directory)))
        del content["kind"]
        marker = Marker(**content)
    except (FileNotFoundError, StorageDamaged, TypeError):
        return None
    numbers = (marker.base_offset, marker.end_offset, marker.nbytes, marker.vouched)
    if {*map(type, numbers)} != {int} or {type(marker.index), type(marker.producers)} != {bytes}:
        return None
    return marker

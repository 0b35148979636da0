"""What flows through a pipeline, as a tap shows it: plain values, and nothing decoded.

`_batch` is the encoded batch, if there is one; `_sample` gives records that are not encoded yet,
cut short, and the bytes that these take. Both are looked at only by taps that want values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from streamer.batch import Batch
from streamer.pipeline.stage import Append, Commit, Group, Proposal
from streamer.records import Lane, Record

Sample = Callable[[], tuple[list[dict[str, Any]], int]]
#: Of the records that a tap shows.
_RECORDS_MAX = 10
_VALUE_BYTES_MAX = 1024
_HEADERS_MAX = 16
_HEADER_CHARS_MAX = 200


def look(item: Any) -> Iterable[dict[str, Any]]:
    """One row for an item; none for what is not of the four that we know."""
    looked = _LOOKS.get(type(item))
    return [] if looked is None else [looked(item)]


def row(
    kind: str,
    stream: str,
    records: int,
    nbytes: int,
    *,
    partition: int | None = None,
    offset: int | None = None,
    lane: str | None = None,
    reason: str | None = None,
    batch: Batch | None = None,
    sample: Sample | None = None,
) -> dict[str, Any]:
    """A row of a tap; see the module."""
    return {
        "kind": kind,
        "stream": stream,
        "partition": partition,
        "offset": offset,
        "records": records,
        "bytes": nbytes,
        "lane": lane,
        "reason": reason,
        "_batch": batch,
        "_sample": sample,
    }


def _append(append: Append) -> dict[str, Any]:
    return row(
        "append",
        append.stream,
        append.count,
        append.nbytes,
        partition=append.partition,
        lane="high" if append.lane is Lane.HIGH else None,
        batch=append.batch,
        sample=partial(_sampled, [append]),
    )


def _group(group: Group) -> dict[str, Any]:
    first = group.appends[0]
    return row(
        "group",
        group.stream,
        sum(append.count for append in group.appends),
        group.nbytes,
        partition=first.partition,
        lane="high" if first.lane is Lane.HIGH else None,
        reason=group.reason,
        batch=first.batch,
        sample=partial(_sampled, group.appends),
    )


def _proposal(proposal: Proposal, kind: str = "proposal") -> dict[str, Any]:
    partition, entry = proposal.partition, proposal.entry
    batch = None if entry is None else entry.batch
    return row(
        kind,
        partition.stream,
        0 if batch is None else batch.count,
        proposal.nbytes,
        partition=partition.number,
        offset=None if batch is None else batch.header.base_offset,
        reason="duplicate" if batch is None else None,
        batch=batch,
    )


def _commit(commit: Commit) -> dict[str, Any]:
    """As its first proposal, with the records of all of them."""
    found = _proposal(commit.proposals[0], "commit")
    count = len(commit.proposals)
    found["records"] = sum(p.entry.batch.count for p in commit.proposals if p.entry is not None)
    found["bytes"] = commit.nbytes
    found["reason"] = f"{count} batches, {commit.level.value}" if count > 1 else commit.level.value
    return found


def _sampled(appends: Sequence[Append]) -> tuple[list[dict[str, Any]], int]:
    records = (record for append in appends for record in append.records)
    shown = [_shown(record) for record in islice(records, _RECORDS_MAX)]
    return shown, sum(map(_nbytes, shown))


def _shown(record: Record) -> dict[str, Any]:
    headers = islice((record.headers or {}).items(), _HEADERS_MAX)
    return {
        "key": None if record.key is None else record.key[:_VALUE_BYTES_MAX],
        "value": record.value[:_VALUE_BYTES_MAX],
        "headers": {name[:_HEADER_CHARS_MAX]: value[:_VALUE_BYTES_MAX] for name, value in headers},
    }


def _nbytes(shown: dict[str, Any]) -> int:
    headers = sum(len(name) + len(value) for name, value in shown["headers"].items())
    return len(shown["key"] or b"") + len(shown["value"]) + headers


_LOOKS: dict[type, Callable[[Any], dict[str, Any]]] = {
    Append: _append,
    Group: _group,
    Proposal: _proposal,
    Commit: _commit,
}

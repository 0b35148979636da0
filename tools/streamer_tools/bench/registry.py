"""Which benchmarks there are: an object that is passed in, never a global.

Rules: names come from the entry-point group `streamer.benchmarks`, of our own package as of any
other; only a benchmark that is named is imported. Two packages that offer one name are refused,
not ranked.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence

import attrs

from streamer.settings import nearest
from streamer_tools.bench.contract import GROUP, Benchmark
from streamer_tools.exits import Exit, Told


class UnknownBenchmark(Told):
    """No benchmark of that name can be run; its one line says why."""

    def __init__(self, line: str) -> None:
        super().__init__(Exit.FAILED, line)


@attrs.frozen
class Entry:
    """A benchmark that has not been imported: its name, and where it comes from."""

    name: str
    #: The distribution that brings it; "" where its metadata does not say.
    package: str
    #: `module:attribute`.
    value: str


class Benchmarks:
    """Benchmarks by name. Immutable: `with_benchmarks` gives a new one."""

    def __init__(
        self,
        entries: Mapping[str, Sequence[importlib.metadata.EntryPoint]],
        ready: Mapping[str, Benchmark] | None = None,
    ) -> None:
        self._entries = {name: tuple(several) for name, several in entries.items()}
        self._ready = dict(ready or {})

    @classmethod
    def installed(cls) -> Benchmarks:
        """The benchmarks of all installed packages; reads their names, imports none of them."""
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for entry in importlib.metadata.entry_points(group=GROUP):
            found.setdefault(entry.name, []).append(entry)
        return cls(found)

    def with_benchmarks(self, *benchmarks: Benchmark) -> Benchmarks:
        """These and `benchmarks`, which take the place of others of the same name."""
        return Benchmarks(self._entries, {**self._ready, **{b.name: b for b in benchmarks}})

    @property
    def names(self) -> list[str]:
        """Known names, sorted."""
        return sorted({*self._entries, *self._ready})

    def entry(self, name: str) -> Entry:
        """Where the benchmark of that name comes from; it must be among `names`."""
        if name in self._ready:
            return Entry(name, "", "")
        first = self._entries[name][0]
        return Entry(name, first.dist.name if first.dist else "", first.value)

    def get(self, name: str) -> Benchmark:
        """The benchmark of that name, imported now if it was not yet.

        Raises:
            UnknownBenchmark: nobody offers it, two do, or it cannot be imported.
        """
        if name in self._ready:
            return self._ready[name]
        entries = self._entries.get(name)
        if entries is None:
            hint = nearest(name, self.names)
            raise UnknownBenchmark(
                f'there is no benchmark "{name}", there are {", ".join(self.names) or "none"}'
                + (f" (did you mean {hint}?)" if hint else "")
            )
        return _load(name, entries)


def _load(name: str, entries: Sequence[importlib.metadata.EntryPoint]) -> Benchmark:
    offers = sorted({entry.value for entry in entries})
    if len(offers) > 1:
        raise UnknownBenchmark(
            f'benchmark "{name}" is in more than one package: {", ".join(offers)}'
        )
    try:
        benchmark = entries[0].load()
    except Exception as error:
        # Whatever an import of foreign code raises, a person needs the same two facts.
        raise UnknownBenchmark(
            f'benchmark "{name}": {offers[0]} fails with {type(error).__name__}: {error}'
        ) from error
    if not isinstance(benchmark, Benchmark):
        raise UnknownBenchmark(f'benchmark "{name}": {offers[0]} is no Benchmark')
    return benchmark

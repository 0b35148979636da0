"""`streamer graph`: pipelines, streams and groups as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer_tools.options import json_option, print_json, url_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamer_tools.graph.model import Pipeline

_KINDS = (".svg", ".txt")


def _file(_: click.Context, __: click.Parameter, name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    if path.suffix.lower() not in _KINDS:
        raise click.BadParameter(f"{name!r} is none of: FILE.svg, FILE.txt")
    return path


@click.command("graph")
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    callback=_file,
    help="Write FILE.svg or FILE.txt instead of printing.",
)
@click.option("--config", metavar="FILE", help="Draw a configuration; no daemon is asked.")
@url_option
@json_option
def command(file: Path | None, config: str | None, url: str, as_json: bool) -> None:
    """Draw which way records go: streams, stages with their channels, groups, dead letters.

    A box is a stage, with what waits in the channel in front of it, of its limits. The SVG needs
    nothing but itself, and follows the reader's choice of dark or light.
    """
    import attrs

    if as_json and file is not None:
        raise click.UsageError("--json prints, -o writes a drawing: choose one")
    pipelines, title = _configured(config) if config is not None else _running(url)
    if as_json:
        print_json({"pipelines": [attrs.asdict(pipeline) for pipeline in pipelines]})
    elif file is None:
        _print(pipelines)
    else:
        file.write_text(_drawn(pipelines, title, file.suffix.lower()), encoding="utf-8")
        click.echo(f"{file}: {len(pipelines)} pipelines")


def _running(url: str) -> tuple[Sequence[Pipeline], str]:
    from streamer_tools.asking import ask
    from streamer_tools.graph.model import of_overview

    return of_overview(ask(url, "overview")), f"streamer at {url}"


def _configured(config: str) -> tuple[Sequence[Pipeline], str]:
    from streamer.config_load import load_config
    from streamer.pipeline.registry import Registry
    from streamer_tools.graph.model import of_config

    return of_config(load_config(config, Registry.installed())), f"streamer, {config}"


def _drawn(pipelines: Sequence[Pipeline], title: str, kind: str) -> str:
    from streamer_tools.graph import page, text

    if kind == ".svg":
        return page.draw(pipelines, title)
    return "".join(f"{line.plain}\n" for line in text.draw(pipelines))


def _print(pipelines: Sequence[Pipeline]) -> None:
    from streamer_tools.graph import text
    from streamer_tools.top.once import print_lines

    print_lines(text.draw(pipelines))

"""Times as people say them: so long ago, or in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from streamer_tools.options import duration


def when(text: str, now: datetime) -> datetime:
    """`10m` or `1h30m` (so long ago), `now`, or a time in ISO 8601 (UTC where it names no zone).

    Raises:
        click.BadParameter: it is none of them, or before the year 1.
    """
    text = text.strip()
    if text == "now":
        return now
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except ValueError:
        pass
    try:
        return now - timedelta(seconds=duration(text.removesuffix(" ago")))
    except (click.BadParameter, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is none of: a time ago such as 90s, 10m or 3d; now; an ISO 8601 time"
        ) from error


def span(text: str, now: datetime) -> tuple[datetime, datetime | None]:
    """`FROM` or `FROM..TO`, each as `when` reads it; an empty TO is none.

    Raises:
        click.BadParameter: it is none, or ends before it begins.
    """
    first, dots, last = text.partition("..")
    begin = when(first, now)
    end = when(last, now) if dots and last.strip() else None
    if end is not None and end < begin:
        raise click.BadParameter(f"{text!r} ends before it begins")
    return begin, end


def us(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

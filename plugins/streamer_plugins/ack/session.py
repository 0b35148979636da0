"""Ack: answers the sessions whose appends have been made durable.

It only resolves values; each session's writer sends all that it has been given since it last
sent, in one frame. So a slow session never holds up another, nor the disk.
"""

from __future__ import annotations

import attrs
import trio

from streamer import Commit, Receipt, Receiver, Sender, Stage, StageContext, StagePlugin


@attrs.frozen
class SessionConfig:
    """The stage `session` has no settings."""


def make(config: SessionConfig, context: StageContext) -> Stage:
    acked = context.stats.counter("ack_answers", "answers given", pipeline=context.pipeline)
    latency = context.stats.latency(
        "append_seconds", "from taking an append in to its ack", pipeline=context.pipeline
    )

    def answer(commit: Commit) -> None:
        now = trio.current_time()
        for proposal in commit.proposals:
            latency.record(now - proposal.accepted_at)
            partition = proposal.partition
            for waiter in proposal.waiters:
                # No effect where a deadline passed first, and was told so.
                waiter.ack.resolve(
                    waiter.index,
                    Receipt(
                        partition.stream,
                        partition.number,
                        waiter.offset,
                        waiter.count,
                        commit.level,
                        waiter.duplicate,
                    ),
                )
            acked.value += len(proposal.waiters)
            proposal.ticket.release()

    async def run(receive: Receiver[Commit], send: Sender[Commit]) -> None:
        with receive, send:
            async for commit in receive:
                answer(commit)

    return run


STAGE = StagePlugin(name="session", place="ack", config=SessionConfig, factory=make)

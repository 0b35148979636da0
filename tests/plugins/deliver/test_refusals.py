"""What the daemon refuses about groups and members, and in which words."""

from __future__ import annotations

import pytest
import trio.testing

from tests.plugins.deliver.kit import admin, group, member, opened, produce

Clock = trio.testing.MockClock


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "x" * 201, "\u202e"])
async def test_members_have_names_that_can_be_printed(autojump_clock: Clock, name: str) -> None:
    async with opened() as site:
        one = await member(site)
        one.subscription = 2
        failed = await one.join(name=name)
        assert failed.code == "bad_request"
        assert "member name" in failed.message
        assert "200 characters that can be printed" in failed.message
        assert failed.message.isprintable()
        one.subscription = 3
        assert await one.join(name="worker März 1") is None
        [_, other] = (await group(site))["member_list"]
        assert other["name"] == "worker März 1"


@pytest.mark.parametrize("verb", ["group", "group_pause", "group_resume", "group_delete"])
async def test_what_is_not_there_is_told_in_one_way(autojump_clock: Clock, verb: str) -> None:
    async with opened() as site:
        await produce(site, 1)
        failed = await admin(site, verb, stream="nosuch", group="g")
        assert (failed.code, failed.message) == ("unknown_stream", "there is no stream 'nosuch'")
        failed = await admin(site, verb, stream="s", group="g")
        assert failed.code == "unknown_group"
        assert failed.message == "there is no group 'g' of stream 's', which has no groups"
        await admin(site, "group_create", stream="s", group="other", settings={})
        failed = await admin(site, verb, stream="s", group="g")
        assert failed.message == "there is no group 'g' of stream 's', its groups are ['other']"


async def test_a_lease_that_would_outlast_its_longest_is_refused(autojump_clock: Clock) -> None:
    odd = {"ack_wait_s": 7200, "lease_max_s": 1}
    text = "ack_wait_s is 7200 s, allowed is up to lease_max_s, which is 1 s: "
    async with opened() as site:
        failed = await admin(site, "group_create", stream="s", group="g", settings=odd)
        assert (failed.code, text in failed.message) == ("bad_request", True)
        assert (await admin(site, "group", stream="s", group="g")).code == "unknown_stream"
        one = await member(site)
        other = await member(site, group="other", ack_wait_s=7200.0, lease_max_s=14_400.0)
        one.subscription, one.group = 2, "new"
        failed = await one.join(ack_wait_s=7200.0)
        assert (failed.code, "which is 3600 s" in failed.message) == ("bad_request", True)
        failed = await admin(
            site, "group_edit", stream="s", group="other", settings={"lease_max_s": 60}
        )
        assert "ack_wait_s is 7200 s, allowed is up to lease_max_s, which is 60 s" in failed.message
        other.subscription = 3
        assert await other.join(ack_wait_s=7200.0) is None, "it is what the group has"

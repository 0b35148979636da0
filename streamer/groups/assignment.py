"""Which member owns which partition of an ordered group: evenly, and moving as few as can be."""

from __future__ import annotations

from collections.abc import Sequence


def assign(owners: Sequence[int | None], members: Sequence[int]) -> list[int | None]:
    """The owner of each partition: `owners` as they are now, changed as little as evenness allows.

    Each member gets as many as any other, give or take one. A member keeps what it has up to its
    share; what it has above that, and what nobody has, goes to those that have least, in the order
    of `members`.
    """
    if not members:
        return [None] * len(owners)
    share, extra = divmod(len(owners), len(members))
    held = dict.fromkeys(members, 0)
    for owner in owners:
        if owner in held:
            held[owner] += 1
    # The members that have most keep the one more that `extra` of them get.
    most = sorted(members, key=lambda member: -held[member])
    shares = {member: share + (index < extra) for index, member in enumerate(most)}
    found: list[int | None] = []
    kept = dict.fromkeys(members, 0)
    for owner in owners:
        if owner in kept and kept[owner] < shares[owner]:
            kept[owner] += 1
            found.append(owner)
        else:
            found.append(None)
    lacking = [member for member in members for _ in range(shares[member] - kept[member])]
    left = iter(lacking)
    return [next(left) if owner is None else owner for owner in found]

"""Consumer groups: who holds what, until when, and what is done. Synchronous, time passed in.

Rules: nothing here reads a clock, a file or a network; every method decides at once, and what is
to be made durable is collected for the journal. `plugins/streamer_plugins/deliver` is the shell.

- `ranges`: sets of offsets. `wheel`: timers. `settings`: what a group is told.
- `progress`: what of a partition is done. `ledger`: that, and the leases; `shared`, `ordered` and
  `keyed` are its three orders of hand-out.
- `group`: members and ledgers of one group. `assignment`: which member owns which partition.
- `journal`: all of this as records of the stream `__groups`, and back.
- `schedules`, `delays`, `letters`: records for later, and dead letters.
"""

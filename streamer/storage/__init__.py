"""The log on disk: synchronous, without trio, and the only room that touches files.

    files       the one place that touches the operating system, behind a protocol
    sidecar     small files under a checksum of their own
    frames      hopping over the batches of a segment, and finding them again after damage
    index       where in a segment an offset or a time is, sparsely
    stamps      who wrote the records of a batch
    producers   who wrote what last: idempotence
    segment     one file of a log and what is known of it
    marker, rewrite, recovery    what is done before a partition is used again
    append, read, retention    plans: the disk work that a partition decided on
    partition   one ordered log: decides, on the event loop
    memory      the same in memory, for streams that need no disk
    log         what both have in common, for those who use them
    directory   the data directory: lock, streams, dictionaries
    verify      the offline walk over every checksum

Rule of the room: decide, then do. A `PartitionLog` changes its state only in its own methods,
which do no I/O and are called on the event loop; the plans that they return do I/O only, in a
worker thread.
"""

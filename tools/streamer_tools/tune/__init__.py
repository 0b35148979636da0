"""`streamer tune`: better settings for one workload on this machine, by measuring.

`command` holds the options. What is to be made quick is in `workload`; what may be changed, in
`space`. `search` decides what is run next and keeps the evidence (`plan` divides the time, `score`
and `certainty` weigh the runs, `proposal` concludes): it is synchronous and knows a run only as a
callable. `trial` is that callable: a daemon of its own for each run, and `traffic` on it.
`config_file` edits TOML, `machine` measures what bounds all of it, `report` prints.

What is promised to be durable is not traded: neither fsync nor the ack level is ever varied.
"""

"""`streamer bench`: what this machine does, in figures that can be put beside its limits.

`contract` says what a benchmark is, for our own and for those of other packages; `registry` finds
them, `command` and `settings` make their command lines, `runner` runs them, on daemons of their
own. `workloads` holds what is timed against a daemon, `swing` compares adaptive groups with fixed
ones, `leases` and `limits` need no daemon. `document`, `results`, `noise` and `compare` make the
JSON, `telling` the lines and `page`, `plots` and `svg` the page for people. `values` is what is
sent, `process` and `machine` what is read from the system. Nothing here is a test: no figure
passes or fails, unless `--fail-below` says so.
"""

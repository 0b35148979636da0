"""`streamer bench`: what this machine does, in figures that can be put beside its limits.

`command` holds the options, `workloads` what is timed against a daemon, `leases` and `limits` what
is measured without one: the structures of consumer groups, and the speed of codec, disk and
loopback. `values` is what is sent, `process` and `machine` what is read from the system, `results`
how repeats become one report. Nothing here is a test: no figure passes or fails.
"""

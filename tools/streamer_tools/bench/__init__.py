"""`streamer bench`: what this machine does, in figures that can be put beside its limits.

`command` holds the options, `workloads` what is timed, `values` what is sent, `process` and
`machine` what is read from the system, `results` how repeats become one report, `limits` the
speed of codec, disk and loopback by themselves. Nothing here is a test: no figure passes or fails.
"""

"""What people see of a running daemon: measurements, events, taps, history.

Rules: nothing here decides anything about records, and nothing here can hold them up: what is kept
is bounded, and what does not fit is counted and dropped. It stands below the pipeline, which calls
it; it knows no stage and no session. All of it belongs to the event loop's thread.
"""

"""Bytes to frames and back, and which frame may come when. No I/O, no trio.

`PROTOCOL.md` beside this file is the specification.
"""

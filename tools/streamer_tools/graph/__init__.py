"""`streamer graph`: which way records go, as a drawing.

`model` is what is drawn, of a daemon's overview or of a configuration; `text` draws it in 80
columns, `page` as SVG. All three are pure; `command` asks, reads and writes.
"""

"""`streamer top`: all of a daemon on one terminal, live.

From the inside out: `figures` makes short texts of values that may be missing; `scene` is what is
known of the daemon; `state` is what the person wants to see, and how keys change it; `table` fits
columns to a width, `lists` says what they are, `details` and `header` draw the rest, `screen` puts
the lines together. All of these are pure: values in, lines of `rich.text.Text` out. `grid` and
`keys` are the terminal's two languages, `terminal` its modes; `live` is the program around them,
and `once` the same without a terminal.
"""

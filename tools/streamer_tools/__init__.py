"""The command line: a file a command, and `main` that finds them.

Rules: a command's module is imported only when it is called, so `streamer --help` costs `click`
and nothing else. Bytes of records go to standard output untouched; everything said to a person
goes to standard error, except for tables that were asked for. `--json` is on every command.
"""

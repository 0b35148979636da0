"""What `bench` times against a daemon, a module for each kind.

`records` has what they share: how many records, of what size, and what runs side by side. Every
loop does what a program of a user would do, with the public client and nothing beside it, and
keeps a time by an append to an array.
"""

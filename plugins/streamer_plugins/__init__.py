"""The stages that streamer ships with, a folder for each place in the flow.

They import only what an outside plugin may.
"""

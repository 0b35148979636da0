"""Stages that hand records out to consumer groups."""

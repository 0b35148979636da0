"""Stages for the place `ack`."""

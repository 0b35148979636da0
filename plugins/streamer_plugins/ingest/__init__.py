"""Stages for the place `ingest`."""

"""Stages for the place `persist`."""

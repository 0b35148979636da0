"""Stages for the place `propose`."""

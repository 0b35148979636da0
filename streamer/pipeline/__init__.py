"""Stages, the bounded channels between them, and what runs them."""

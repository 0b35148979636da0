"""The process: start and stop in nesting order, signals, logs, health, metrics."""

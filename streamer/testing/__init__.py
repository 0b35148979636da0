"""For authors of plugins: in-memory files with faults, and the checks that every stage passes."""

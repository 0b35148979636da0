"""The shell round `wire`: listeners, sessions, credit, deliveries, admin requests."""

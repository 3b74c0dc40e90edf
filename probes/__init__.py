"""Questions and marking: identifier probes and problems. Never a model."""

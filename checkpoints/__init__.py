"""Training runs on disk: find, open, swap weights, make a new one. Never a conclusion."""

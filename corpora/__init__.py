"""Text: sources, token-true mixing, the `Mix` document, the small Babel. Never a model."""

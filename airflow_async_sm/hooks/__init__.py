"""Where AWS is called."""

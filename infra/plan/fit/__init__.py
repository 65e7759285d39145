"""Whether a model fits the memory it is given, from its config.json alone."""

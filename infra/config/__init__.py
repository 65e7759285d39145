"""The configuration of a stack: one schema, one parser, checks of what contradicts, two readers."""

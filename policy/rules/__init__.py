"""The rules, each a plain function of what a manifest says; nothing here knows the engine."""

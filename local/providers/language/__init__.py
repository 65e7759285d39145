"""Stand-in for the official `pulumi-language-python` host."""

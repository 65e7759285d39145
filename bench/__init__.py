"""What the stack reaches: a load generator, the server against its bars, and the time of a preview."""

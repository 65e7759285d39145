"""The only place that creates resources."""

"""Stands in for pulumi-resource-kubernetes where it cannot be had: the same protocol, against the real API server."""

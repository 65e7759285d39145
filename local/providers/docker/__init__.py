"""Stands in for pulumi-resource-docker where it cannot be had: one resource, `docker:index/image:Image`, built with BuildKit."""

"""Contradictions: values that are sound one by one and cannot be had together."""

from infra.config.checks import endpoint, gpus, scaling, server

CHECKS = (*scaling.CHECKS, *server.CHECKS, *gpus.CHECKS, *endpoint.CHECKS)

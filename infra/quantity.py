"""Quantities as Kubernetes writes them."""

BINARY_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def bytes_of(quantity: str) -> int:
    """Bytes of a quantity with a binary unit, such as 700Mi."""
    return int(quantity[:-2]) * BINARY_UNITS[quantity[-2:]]

"""Quantities as Kubernetes writes them."""

BINARY_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
UNITS = {**BINARY_UNITS, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def bytes_of(quantity: str) -> int:
    """Bytes of a quantity with a unit, such as 700Mi or 8G."""
    digits = quantity.rstrip("KMGTki")
    return int(digits) * UNITS[quantity.removeprefix(digits)]

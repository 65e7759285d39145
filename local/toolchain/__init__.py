"""The tools that the embedded cluster and Pulumi need: found, downloaded or built, and kept by version."""

from local.toolchain.debian import require as require_system
from local.toolchain.obtain import Tools, obtain

__all__ = ["Tools", "obtain", "require_system"]

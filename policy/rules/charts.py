"""Helm charts. What is inside one is not seen here: only the release's own settings are part of the stack."""

import re
from collections.abc import Iterator

from .manifest import UNKNOWN, Resource, value

KINDS = ("Release", "Chart")
# One version, not a range of them: https://semver.org, with the v that some publishers write.
VERSION = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
# A chart that is there as files, which change only with the checkout: a directory, or a package.
HERE = re.compile(r"\.{0,2}/.*|[^:]*\.tgz")


def versioned(resource: Resource) -> Iterator[str]:
    """Each release names one version of its chart, or a chart that is there as files."""
    if resource.group != "helm.sh" or resource.kind not in KINDS:
        return
    chart, version = value(resource.inputs, "chart"), value(resource.inputs, "version")
    if UNKNOWN in (chart, version) or (isinstance(chart, str) and HERE.fullmatch(chart)):
        return
    if not (isinstance(version, str) and VERSION.fullmatch(version)):
        said = f"version {version!r} is not one version" if version else "no version is named"
        yield f"chart {chart}: {said}, so the next update may install another one. Name it exactly, as in 1.2.3."

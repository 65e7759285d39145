"""Patterns of what Kubernetes and registries accept as names and quantities."""

import typing

from infra.config.parsing import key

# RFC 1123, as Kubernetes asks of names of namespaces and Services; a Service's begins with a letter.
DNS_LABEL = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
# At most 46 characters: a pod's name is cut to 58 before its own five, and keeps the ReplicaSet's hash (10, and two dashes) only
# then; the query for GPU utilisation goes by it. The proof's Job, whose name is a label too (63), adds 17.
MODEL_NAME = r"[a-z]([-a-z0-9]{0,44}[a-z0-9])?"
DNS_NAME = r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
OBJECT_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
NODE_NAME = r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?"  # as the value of a label
LABEL_NAME = rf"({OBJECT_NAME}/)?[A-Za-z0-9]([-\w.]{{0,61}}[A-Za-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?"
CPU_QUANTITY = r"[1-9]\d*m|[1-9]\d*(\.\d+)?|0\.\d*[1-9]"
MEMORY_QUANTITY = r"[1-9]\d*([KMGT]i|[kMGT])"
# A day: longer than any answer, and as long as a Gateway's timeout may be written.
DAY_SECONDS = 86_400
PORT = r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]"
# Without a user: an address is shown, and its password would be.
HTTP_ADDRESS = rf"https?://[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?(:({PORT}))?(/[!-~]*)?"
REPOSITORY = r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+"
IMAGE_DIGEST = REPOSITORY + r"(:[\w.-]+)?@sha256:[0-9a-f]{64}"
BY_DIGEST = "a reference by digest (a tag can move under a running model)"
# The API server's default range for node ports.
NODE_PORT_FIRST, NODE_PORT_LAST = 30000, 32767


def labels(doc: str) -> typing.Any:  # as key()
    """A field of labels; none by default."""
    return key(
        doc,
        default_factory=dict,
        pattern=LABEL_NAME,
        looks="a label's name, such as example.org/kind",
        inner=LABEL_VALUE,
        inner_looks="a label's value, at most 63 letters, digits, dashes, dots and underscores",
    )


def annotations(doc: str) -> typing.Any:  # as key()
    """A field of annotations; none by default."""
    return key(doc, default_factory=dict, pattern=LABEL_NAME, looks="an annotation's name, such as example.org/kind")

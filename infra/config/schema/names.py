"""Patterns of what Kubernetes and registries accept as names and quantities."""

# RFC 1123, as Kubernetes asks of names of namespaces and Services; a Service's begins with a letter.
DNS_LABEL = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
# KEDA names its autoscaler `keda-hpa-<name>`, and a name has at most 63 characters.
MODEL_NAME = r"[a-z]([-a-z0-9]{0,52}[a-z0-9])?"
DNS_NAME = r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
CPU_QUANTITY = r"\d+m|\d+(\.\d+)?"
MEMORY_QUANTITY = r"\d+(Ki|Mi|Gi|Ti)"
HTTP_ADDRESS = r"https?://[^/\s]+(/\S*)?"
REPOSITORY = r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+"
IMAGE_DIGEST = REPOSITORY + r"(:[\w.-]+)?@sha256:[0-9a-f]{64}"
BY_DIGEST = "a reference by digest (a tag can move under a running model)"
# The API server's default range for node ports.
NODE_PORT_FIRST, NODE_PORT_LAST = 30000, 32767

"""What leads to a model from outside: what it lets be read, and how long it lets answers be."""

from collections.abc import Iterator

from infra.config.schema import IngressExposure, StackConfig
from infra.findings import Finding, warning

# Part of the name of every usual class of ingress-nginx, such as nginx-internal.
NGINX_CLASS = "nginx"


def findings(config: StackConfig, key: str) -> Iterator[Finding]:
    """An exposure whose requests travel in clear, or whose proxy is told nothing of streams."""
    exposure, path = config.models[key].exposure, f"models.{key}.exposure"
    if exposure is None:
        return
    clear, remedy = "ends no TLS: keys and prompts travel in clear", "unless a proxy before it ends TLS."
    if not isinstance(exposure, IngressExposure):
        if not exposure.tls:
            yield warning(f"{path}.tls", exposure.tls, clear, f"Give the Gateway a listener with TLS, {remedy}")
        return
    if exposure.tls_secret is None:
        yield warning(f"{path}.tls_secret", "none", clear, f"Name the Secret with the certificate, {remedy}")
    if NGINX_CLASS not in exposure.class_name and not exposure.annotations:
        yield warning(
            f"{path}.class_name",
            exposure.class_name,
            "does not read ingress-nginx's annotations, by which streams are not buffered and long answers not cut off",
            f"Set that proxy's timeout and buffering by {path}.annotations.",
        )

"""What leads to a model from outside the cluster: an Ingress, or a Gateway's route."""

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import Exposure, GatewayExposure, IngressExposure
from infra.lifecycle import gateway_timeout
from infra.versions import GATEWAY_API
from infra.workload import Workload

# ingress-nginx's: a stream is told token by token, and a long prompt is sent whole.
NGINX = "nginx.ingress.kubernetes.io"
# Bytes of the largest body; the server has a limit of its own, and a clearer answer.
BODY_SIZE = "16m"


def exposure_url(exposure: Exposure) -> str:
    """The address that clients use, without a path."""
    match exposure:
        case IngressExposure(host=host, tls_secret=secret):
            return f"{'https' if secret else 'http'}://{host}"
        case GatewayExposure(host=host, tls=tls):
            return f"{'https' if tls else 'http'}://{host}"


def ingress(
    name: str,
    workload: Workload,
    exposure: IngressExposure,
    answer: int,
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> k8s.networking.v1.Ingress:
    """An Ingress that neither buffers a stream nor ends it before the server would."""
    timeout = str(gateway_timeout(exposure, answer))
    annotations = {
        f"{NGINX}/proxy-read-timeout": timeout,
        f"{NGINX}/proxy-send-timeout": timeout,
        f"{NGINX}/proxy-buffering": "off",
        f"{NGINX}/proxy-request-buffering": "off",
        f"{NGINX}/proxy-body-size": BODY_SIZE,
        # A pod that says 429 or 503 means it: asking the next one would only pass the load on.
        f"{NGINX}/proxy-next-upstream": "error timeout",
        **({"cert-manager.io/cluster-issuer": exposure.issuer} if exposure.issuer else {}),
        **exposure.annotations,
    }
    backend = k8s.networking.v1.IngressBackendArgs(
        service=k8s.networking.v1.IngressServiceBackendArgs(
            name=workload.name, port=k8s.networking.v1.ServiceBackendPortArgs(name=workload.port_name)
        )
    )
    path = k8s.networking.v1.HTTPIngressPathArgs(path="/v1", path_type="Prefix", backend=backend)
    tls = k8s.networking.v1.IngressTLSArgs(hosts=[exposure.host], secret_name=exposure.tls_secret)
    return k8s.networking.v1.Ingress(
        name,
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=workload.name, namespace=namespace, labels=workload.labels, annotations=annotations
        ),
        spec=k8s.networking.v1.IngressSpecArgs(
            ingress_class_name=exposure.class_name,
            rules=[
                k8s.networking.v1.IngressRuleArgs(
                    host=exposure.host, http=k8s.networking.v1.HTTPIngressRuleValueArgs(paths=[path])
                )
            ],
            tls=[tls] if exposure.tls_secret else None,
        ),
        opts=opts,
    )


def gateway_route(
    name: str,
    workload: Workload,
    exposure: GatewayExposure,
    answer: int,
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> k8s.apiextensions.CustomResource:
    """An HTTPRoute that waits as long as the server answers; Gateways stream unless told otherwise."""
    timeout = f"{gateway_timeout(exposure, answer)}s"
    parent = {"name": exposure.gateway, "namespace": exposure.namespace}
    if exposure.section is not None:
        parent["sectionName"] = exposure.section
    return k8s.apiextensions.CustomResource(
        name,
        api_version=GATEWAY_API,
        kind="HTTPRoute",
        metadata=k8s.meta.v1.ObjectMetaArgs(name=workload.name, namespace=namespace, labels=workload.labels),
        spec={
            "parentRefs": [parent],
            "hostnames": [exposure.host],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                    "backendRefs": [{"name": workload.name, "port": workload.port}],
                    "timeouts": {"request": timeout, "backendRequest": timeout},
                }
            ],
        },
        opts=opts,
    )

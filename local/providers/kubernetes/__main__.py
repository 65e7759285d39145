"""`python3 -m local.providers.kubernetes ENGINE`."""

import sys

from pulumi.runtime.proto import provider_pb2_grpc

from local.providers.engine_log import EngineLog
from local.providers.kubernetes.provider import KubernetesProvider
from local.providers.plugin import serve

if __name__ == "__main__":
    provider = KubernetesProvider(EngineLog(sys.argv[-1]))
    serve(
        lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server),
        "pulumi-resource-kubernetes",
    )

"""`python3 -m local.providers.docker ENGINE`."""

import sys

from pulumi.runtime.proto import provider_pb2_grpc

from local.providers.docker.provider import DockerProvider
from local.providers.engine_log import EngineLog
from local.providers.plugin import serve

if __name__ == "__main__":
    provider = DockerProvider(EngineLog(sys.argv[-1]))
    serve(
        lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server),
        "pulumi-resource-docker",
    )

"""`python3 -m local.providers.language ENGINE`."""

import sys

from pulumi.runtime.proto import language_pb2_grpc

from local.providers.language.host import LanguageHost
from local.providers.plugin import serve

if __name__ == "__main__":
    host = LanguageHost(sys.argv[-1])
    serve(
        lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server), "pulumi-language-python"
    )

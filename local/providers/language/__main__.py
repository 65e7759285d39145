"""Serves the language host on loopback and prints its port, as the engine expects of a plugin."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from pulumi.runtime.proto import language_pb2_grpc

from local.providers.language.host import LanguageHost

WORKERS = 8  # threads: one runs the program, the engine asks about plugins beside it


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=WORKERS))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(sys.argv[-1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # The engine decides when this host ends. A handler and not SIG_IGN, which the program would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(None))
    print(port, flush=True)
    print("llm-stack: the Python language host stands in for the official plugin", file=sys.stderr, flush=True)
    server.wait_for_termination()


main()

"""How a stand-in is served: on loopback, with its port on standard output, until the engine ends it."""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

PARENT_SECONDS = 1.0
WORKERS = 32  # threads: an update may wait for as many objects at a time
MESSAGE_BYTES = 400 * 1024 * 1024  # the engine's own limit; a chart's objects in one message are large


def serve(register: Callable[[grpc.Server], None], what: str) -> None:
    """Serves what ``register`` adds; ``what`` names the official plugin that is stood in for."""
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
    server = grpc.server(ThreadPoolExecutor(max_workers=WORKERS), options=options)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # A plugin is a process group of its own, which Ctrl-C does not reach: SIGINT is the engine's word to end.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: server.stop(None))
    print(port, flush=True)
    print(f"llm-stack: a stand-in serves for {what}", file=sys.stderr, flush=True)
    engine = os.getppid()
    while server.wait_for_termination(PARENT_SECONDS):  # True: nobody has ended it yet
        if os.getppid() != engine:  # a killed engine says no word; calls that still run would hold up an orderly end
            os._exit(1)

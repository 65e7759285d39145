"""The language host: runs a Python program or policy pack for the engine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

EXEC_VARIABLE = "LLM_STACK_PULUMI_PYTHON_EXEC"
# The program has already reported its error to the engine (contract of pulumi-language-python-exec).
BAIL_STATUS = 32
# How the engine calls a policy pack among plugins (sdk/go/common/apitype, AnalyzerPlugin).
POLICY_PACK = "analyzer"
PIECE_BYTES = 65536

Response = language_pb2.RunPluginResponse


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Serves one engine, whose address is ``engine`` (host:port)."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def GetPluginInfo(  # noqa: N802
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version="0.1.0")

    def GetRequiredPackages(  # noqa: N802
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        return language_pb2.GetRequiredPackagesResponse()

    def About(  # noqa: N802
        self, request: language_pb2.AboutRequest, context: grpc.ServicerContext
    ) -> language_pb2.AboutResponse:
        return language_pb2.AboutResponse(executable=sys.executable, version=sys.version.split()[0])

    def Run(  # noqa: N802
        self, request: language_pb2.RunRequest, context: grpc.ServicerContext
    ) -> language_pb2.RunResponse:
        """Runs the program to its end; cancelling the call stops it."""
        script = os.environ.get(EXEC_VARIABLE)
        if not script:
            return language_pb2.RunResponse(error=f'{EXEC_VARIABLE} is not set: run eval "$(python3 -m local env)"')
        command = [sys.executable, "-u", script, "--monitor", request.monitor_address, "--engine", self._engine]
        command += ["--project", request.project, "--stack", request.stack, "--pwd", request.pwd]
        command += ["--organization", request.organization, "--parallel", str(request.parallel)]
        command += ["--root_directory", request.info.root_directory]
        if request.dryRun:
            command += ["--dry_run", "true"]
        command += [request.info.entry_point or request.program or ".", *request.args]
        environment = os.environ | {
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        process = subprocess.Popen(command, env=environment, cwd=request.info.program_directory or request.pwd)
        context.add_callback(process.terminate)
        status = process.wait()
        if status == BAIL_STATUS:
            return language_pb2.RunResponse(bail=True)
        if status:
            return language_pb2.RunResponse(error=f"the program {request.project} exited with status {status}")
        return language_pb2.RunResponse()

    def RunPlugin(  # noqa: N802
        self, request: language_pb2.RunPluginRequest, context: grpc.ServicerContext
    ) -> Iterator[Response]:
        """Runs a policy pack, in the environment that it names, until the engine cancels the call.

        The stack's configuration is not handed on to the pack: a pack that reads it needs the official host.
        """
        if request.kind != POLICY_PACK:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"this stand-in runs policy packs; {request.kind!r} is none")
        directory = request.info.program_directory
        options = dict(request.info.options)
        python = Path(sys.executable)
        if "virtualenv" in options:
            python = Path(request.info.root_directory, str(options["virtualenv"]), "bin", "python")
        if not python.exists():
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{python} is not there: run `make policy/.venv/pack`")
        process = subprocess.Popen(
            [python, "-u", "-m", "pulumi.policy", *request.args, directory],
            cwd=directory,
            env=os.environ | dict(item.split("=", 1) for item in request.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        context.add_callback(process.terminate)
        assert process.stdout is not None
        assert process.stderr is not None
        yield from _pieces(process.stdout, process.stderr)
        yield Response(exitcode=process.wait())


def _pieces(stdout: IO[bytes], stderr: IO[bytes]) -> Iterator[Response]:
    """What a process says, as it comes, until it has ended."""
    pieces: SimpleQueue[Response | None] = SimpleQueue()

    def read(stream: IO[bytes], answer: Callable[[bytes], Response]) -> None:
        while piece := os.read(stream.fileno(), PIECE_BYTES):
            pieces.put(answer(piece))
        stream.close()
        pieces.put(None)

    Thread(target=read, args=(stdout, lambda piece: Response(stdout=piece)), daemon=True).start()
    Thread(target=read, args=(stderr, lambda piece: Response(stderr=piece)), daemon=True).start()
    for _ in (stdout, stderr):
        while (piece := pieces.get()) is not None:
            yield piece

"""The language host: runs a Python program for the engine."""

import json
import os
import subprocess
import sys

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

EXEC_VARIABLE = "LLM_STACK_PULUMI_PYTHON_EXEC"
# The program has already reported its error to the engine (contract of pulumi-language-python-exec).
BAIL_STATUS = 32


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

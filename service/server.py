"""The server process: settings to engine, application and connections."""

import gc
import sys

import uvicorn

from service import logs
from service.app import create_app
from service.engine.engine import Engine, EngineState
from service.lifecycle import IDLE_SECONDS, LAST_WORDS_SECONDS, AgedConnection, Connections, Lifecycle, Server
from service.metrics import Metrics
from service.settings import Settings

FAILURE_STATUS = 1


def serve(settings: Settings) -> int:
    """Serves until SIGTERM; returns the exit status: 0 after a drain, 1 when the model cannot be loaded or the engine failed."""
    logs.configure(settings.log_level)
    metrics = Metrics(settings.name)
    engine = Engine(settings, metrics)
    lifecycle = Lifecycle()
    app = create_app(settings, engine, metrics, lifecycle)
    connections = Connections(app, lifecycle, settings.max_connection_age_seconds)
    config = uvicorn.Config(
        connections,
        host=settings.host,
        port=settings.port,
        http=AgedConnection,
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
    )
    engine.start()
    Server(config, engine, lifecycle, connections, settings.drain_timeout_seconds).run()
    engine.join(LAST_WORDS_SECONDS)
    gc.unfreeze()  # libraries look for what was left behind, at the end
    if engine.state is EngineState.FAILED:
        print(f"{settings.model}: {' '.join(engine.progress.split())}", file=sys.stderr)
        return FAILURE_STATUS
    return 0

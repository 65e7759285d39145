"""`MODEL=<directory or hub id> python -m service`: serves the model until SIGTERM."""

import logging
import os
import sys

import uvicorn

from service.app import create_app
from service.engine.engine import Engine, EngineState
from service.lifecycle import IDLE_SECONDS, LAST_WORDS_SECONDS, AgedConnection, Connections, Lifecycle, Server
from service.metrics import Metrics
from service.settings import Settings, SettingsError

FAILURE_STATUS, USAGE_STATUS = 1, 2


def main() -> int:
    """Returns the exit status: 0 after a drain, 1 when the model could not be loaded or the engine has failed."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return USAGE_STATUS
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stdout
    )
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
        access_log=False,
        log_config=None,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
    )
    engine.start()
    Server(config, engine, lifecycle, connections, settings.drain_timeout_seconds).run()
    if engine.state is EngineState.FAILED:
        print(f"{settings.model}: {' '.join(engine.progress.split())}", file=sys.stderr)
        return FAILURE_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())

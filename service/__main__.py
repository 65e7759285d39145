"""`MODEL=<directory or hub id> python -m service`: serves the model until SIGTERM."""

import gc
import os
import signal
import sys

from service import launcher
from service.settings import Settings, SettingsError

USAGE_STATUS = 2


def main() -> int:
    """Returns the exit status: 2 for wrong settings, else as :func:`service.server.serve`."""
    # Until the server handles it: a container's first process that does not handle SIGTERM is not ended by it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return USAGE_STATUS
    divided = settings.tensor_parallel > 1
    if divided and not launcher.is_rank(os.environ):
        return launcher.launch(settings)
    # Millions of objects come with the imports and the weights, and none is garbage; the server looks for it again.
    gc.disable()
    # Imported below: torch takes seconds, in which the two above already hold.
    if divided:
        launcher.become_rank()
        if os.environ[launcher.RANK] != "0":
            from service.follower import follow

            return follow(settings)
    from service.server import serve

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())

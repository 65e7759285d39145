"""A process of a divided model other than rank 0: it computes its part of what rank 0 tells, and answers nobody."""

import gc
import logging
import os
import signal
import sys

from service import logs
from service.engine.engine import step_tokens
from service.engine.model import LanguageModel, device_type
from service.engine.ranks import Ranks
from service.engine.runner import Runner
from service.launcher import RANK
from service.settings import Settings

log = logging.getLogger(__name__)

FAILURE_STATUS = 1


def follow(settings: Settings) -> int:
    """Works until rank 0 says that it is over; returns the exit status: 1 when something fails or rank 0 is gone."""
    # What rank 0 tells of the start would be said by everyone.
    logs.configure("warning" if settings.log_level == "info" else settings.log_level)
    # At once, even in the middle of a call that waits for the others.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        ranks = Ranks.join(settings.tensor_parallel, device_type(settings.device))
        model = LanguageModel.load(settings, log.info, ranks)
        cache = model.cache(settings, step_tokens(settings, model.device))
        runner = Runner(model.network, cache, model.shapes, share=ranks.share)
        # From here on rank 0 drains, and needs the others until its last answer has ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        gc.freeze()
        gc.enable()
        while (batch := ranks.hear()) is not None:
            runner.follow(batch)
        ranks.leave()
    except Exception as error:
        log.exception("a rank has failed")
        print(f"rank {os.environ[RANK]}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILURE_STATUS
    finally:
        gc.unfreeze()
    return 0

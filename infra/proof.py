"""Proof that the signals of a model are measured: asks Prometheus what the autoscaler will ask it.

Runs in the cluster, in a Job, from a ConfigMap: `python proof.py` with QUESTIONS, a JSON list of [name, query], PROMETHEUS,
PATIENCE_SECONDS, and TOKEN_FILE where Prometheus wants a token. Standard library only: it runs in any image with Python.
"""

import json
import math
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PAUSE_SECONDS = 3.0
ANSWER_SECONDS = 10.0


def ask(prometheus: str, query: str, token: str) -> str:
    """What is wrong with the answer; empty where it is one number."""
    address = f"{prometheus.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            result = json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        return f"Prometheus answers {error.code}: {error.read().decode(errors='replace')[:200]}"
    except (OSError, ValueError, KeyError) as error:
        return f"Prometheus at {prometheus} does not answer: {error}"
    if not result:
        return "no series: is what exposes it scraped (its ServiceMonitor selected), and do the labels match?"
    if len(result) > 1:
        return f"{len(result)} series instead of one"
    value = float(result[0]["value"][1])
    return "" if math.isfinite(value) else f"{value} is no number"


def main() -> int:
    """Waits until every question has an answer; says which has none, and returns 1, when patience is at its end."""
    prometheus, open_questions = os.environ["PROMETHEUS"], dict(json.loads(os.environ["QUESTIONS"]))
    token_file = os.environ.get("TOKEN_FILE")
    token = Path(token_file).read_text().strip() if token_file else ""
    end = time.monotonic() + float(os.environ["PATIENCE_SECONDS"])
    while True:
        problems = {name: ask(prometheus, query, token) for name, query in open_questions.items()}
        for name in [name for name, problem in problems.items() if not problem]:
            print(f"{name}: measured", flush=True)
            del open_questions[name]
        if not open_questions:
            return 0
        if time.monotonic() > end:
            for name, query in open_questions.items():
                print(f"{name}: {problems[name]} ({query})", flush=True)
            return 1
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

"""From the start to SIGTERM."""

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.service.server import ServerProcess

STORY = {"messages": [{"role": "user", "content": "Tell a story"}], "max_tokens": 300, "stream": True, "temperature": 0}


def test_sigterm_lets_a_running_stream_end_and_exits_with_0(model: Path, tmp_path: Path) -> None:
    server = ServerProcess(model, tmp_path / "log", DRAIN_TIMEOUT_SECONDS="30")
    try:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=STORY, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.terminate()
            server.wait_for(lambda: server.get("/ready").status_code == 503)
            assert server.get("/ready").json()["status"] == "draining"
            late = httpx.post(f"{server.url}/v1/completions", json={"prompt": "late", "max_tokens": 2}, timeout=30)
            assert late.status_code == 200
            assert late.headers["connection"] == "close"
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.process.wait(20) == 0
    finally:
        server.close()


def test_stream_beyond_the_drain_ends_with_an_error_event(model: Path, tmp_path: Path) -> None:
    server = ServerProcess(model, tmp_path / "log", DRAIN_TIMEOUT_SECONDS="0")
    try:
        with httpx.stream(
            "POST", f"{server.url}/v1/chat/completions", json={**STORY, "max_tokens": 2000}, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.terminate()
            last = [line for line in lines if line][-1]
        assert "shutting down" in last
        assert server.process.wait(20) == 0
    finally:
        server.close()


def test_old_connection_is_closed_after_an_answer(model: Path, tmp_path: Path) -> None:
    server = ServerProcess(model, tmp_path / "log", MAX_CONNECTION_AGE_SECONDS="1")
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        began = time.monotonic()
        kept = True
        while kept:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            kept = answer.getheader("connection") != "close"
            assert time.monotonic() - began < 10
        assert time.monotonic() - began >= 1
        connection.close()
    finally:
        server.close()


def test_wrong_settings_are_all_named_at_once() -> None:
    environment = {**os.environ, "PORT": "http", "DTYPE": "int4", "MAX_RUNNING_REQUESTS": "0"}
    environment.pop("MODEL", None)
    done = subprocess.run(
        [sys.executable, "-m", "service"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    for name in ("MODEL", "PORT", "DTYPE", "MAX_RUNNING_REQUESTS"):
        assert name in done.stderr


def test_model_that_cannot_be_loaded_ends_the_process_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    server = ServerProcess(tmp_path / "empty", tmp_path / "log", ready=False)
    try:
        assert server.process.wait(60) == 1
        assert server.log.read_text().splitlines()[-1].startswith(f"{tmp_path / 'empty'}: ")
    finally:
        server.close()

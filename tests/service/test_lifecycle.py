"""From the start to SIGTERM."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from service import metric_names
from tests.service.server import START_SECONDS, ServerProcess

# So many of them get tokens when the signal comes, and the others wait for their turn.
STREAMS, RUNNING = 60, 50
STORY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell a story"}],
    "max_tokens": 40,
    "stream": True,
    "ignore_eos": True,
}
# It goes on for longer than the others take to begin.
LONG_STORY = {**STORY, "max_tokens": 500}
# Longer than any of the times below.
ENDLESS = {**STORY, "max_tokens": 1900, "n": 4}


# Long enough that what is sent in parts is not received in one.
APART_SECONDS = 0.02


def kept_alive(server: ServerProcess) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    return connection


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_offer_of_another_protocol_is_passed_over(server: ServerProcess, parts: int, chunked: bool) -> None:
    """As Java's own client makes it with every request."""
    body = json.dumps({"prompt": "Upgrade: none\r\n", "max_tokens": 1}).encode()
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        f"HTTP2-Settings: AAEAAEAA\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
    )
    sent = head.encode() + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
    places = [len(head) * part // parts for part in range(1, parts)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for _ in range(2):  # one connection serves several
            for start, end in pairwise([0, *places, len(head), len(sent)]):
                connection.sendall(sent[start:end])
                time.sleep(APART_SECONDS)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200, answer.read()
            assert json.loads(answer.read())["usage"]["completion_tokens"] == 1


def closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the server closes it; the connection is of no use afterwards."""
    assert connection.sock is not None
    try:
        return connection.sock.recv(1) == b""
    except ConnectionResetError:
        return True
    finally:
        connection.close()


def started(server: ServerProcess) -> None:
    """Waits until it serves; meanwhile it says how far it is."""
    told: set[tuple[str, str]] = set()

    def ready() -> bool:
        answer = server.get("/ready")
        if answer.status_code == 503:
            told.add((answer.json()["status"], answer.json()["detail"]))
        return answer.status_code == 200

    server.wait_for(ready, START_SECONDS)
    assert {status for status, _ in told} == {"loading"}
    assert all(detail for _, detail in told)


def test_sigterm_lets_live_streams_end_and_answers_what_still_comes(model: Path, tmp_path: Path) -> None:
    settings = {"DRAIN_TIMEOUT_SECONDS": "120", "MAX_RUNNING_REQUESTS": str(RUNNING), "MAX_WAITING_REQUESTS": "100"}
    server = ServerProcess(model, tmp_path / "log", ready=False, **settings)

    async def listen(client: httpx.AsyncClient, started: asyncio.Semaphore) -> list[str]:
        async with client.stream("POST", "/v1/chat/completions", json=LONG_STORY) as answer:
            started.release()
            return [line async for line in answer.aiter_lines() if line]

    async def crowd() -> list[list[str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            started = asyncio.Semaphore(0)
            streams = [asyncio.create_task(listen(client, started)) for _ in range(STREAMS)]
            for _ in range(RUNNING):
                await started.acquire()
            idle = kept_alive(server)
            assert not any(stream.done() for stream in streams)
            server.terminate()
            assert await asyncio.to_thread(closed, idle)
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            late = await client.post("/v1/completions", json={"prompt": "late", "max_tokens": 2})
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            return await asyncio.gather(*streams)

    try:
        started(server)
        for lines in asyncio.run(crowd()):
            assert lines[-1] == "data: [DONE]"
            assert json.loads(lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(20) == 0
    finally:
        server.close()


def test_request_before_the_model_is_there_is_refused_and_counted(model: Path, tmp_path: Path) -> None:
    server = ServerProcess(model, tmp_path / "log", ready=False)
    try:
        server.wait_for(lambda: server.get("/health").status_code == 200, START_SECONDS)
        answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "early", "max_tokens": 1}, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, metric_names.REFUSED_UNAVAILABLE)
        assert server.refused(metric_names.REFUSED_UNAVAILABLE) == 1
    finally:
        server.close()


def test_what_the_drain_cuts_off_ends_with_an_error(model: Path, tmp_path: Path) -> None:
    server = ServerProcess(model, tmp_path / "log", DRAIN_TIMEOUT_SECONDS="1", MAX_RUNNING_REQUESTS="6")

    async def cut_off() -> tuple[list[str], httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            whole = asyncio.create_task(client.post("/v1/chat/completions", json={**ENDLESS, "n": 1, "stream": False}))
            async with client.stream("POST", "/v1/chat/completions", json=ENDLESS) as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                server.terminate()
                return [line async for line in lines if line], await whole

    try:
        events, whole = asyncio.run(cut_off())
        error = json.loads(events[-1].removeprefix("data: "))["error"]
        assert (error["type"], error["code"]) == ("service_unavailable_error", "unavailable")
        assert "shutting down" in error["message"]
        assert (whole.status_code, whole.headers["retry-after"]) == (503, "1")
        assert server.process.wait(20) == 0
    finally:
        server.close()


@pytest.fixture(scope="module")
def hasty(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("hasty") / "log"
    server = ServerProcess(model, log, MAX_CONNECTION_AGE_SECONDS="1", REQUEST_TIMEOUT_SECONDS="1")
    yield server
    server.close()


class TestBounds:
    """Of time: of a request and of a connection."""

    def test_old_connection_is_closed_after_an_answer(self, hasty: ServerProcess) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", hasty.port, timeout=10)
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

    def test_request_beyond_its_time_ends_with_an_error(self, hasty: ServerProcess) -> None:
        before = hasty.refused(metric_names.REFUSED_TIMEOUT)
        began = time.monotonic()
        whole = httpx.post(f"{hasty.url}/v1/chat/completions", json={**ENDLESS, "stream": False}, timeout=30)
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "request_timeout")
        assert whole.headers["x-should-retry"] == "false"  # or OpenAI's client would try again
        assert 1 <= time.monotonic() - began < 10  # the machine may be busy
        with (
            openai.OpenAI(base_url=f"{hasty.url}/v1", api_key="none", max_retries=2) as client,
            pytest.raises(openai.InternalServerError) as late,
        ):
            client.chat.completions.create(
                model="tiny", messages=ENDLESS["messages"], max_tokens=1900, n=4, extra_body={"ignore_eos": True}
            )
        assert (late.value.status_code, late.value.code) == (504, "request_timeout")
        streamed = httpx.post(f"{hasty.url}/v1/chat/completions", json=ENDLESS, timeout=30)
        last = streamed.text.rstrip().rpartition("data: ")[2]
        assert (streamed.status_code, json.loads(last)["error"]["code"]) == (200, "request_timeout")
        with openai.OpenAI(base_url=f"{hasty.url}/v1", api_key="none") as client:
            chunks = client.chat.completions.create(
                model="tiny",
                messages=ENDLESS["messages"],
                max_tokens=1900,
                n=4,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            with pytest.raises(openai.APIError, match="within the 1 s"):
                list(chunks)
        assert hasty.refused(metric_names.REFUSED_TIMEOUT) == before + 4  # the client has not tried again
        hasty.wait_for(lambda: hasty.metric("vllm:num_requests_running") == 0, seconds=5)

    def test_body_that_never_comes_is_not_waited_for(self, hasty: ServerProcess) -> None:
        head = (
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
        )
        with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 504 ")


def test_sigterm_before_anything_runs_ends_the_process(model: Path, tmp_path: Path) -> None:
    server = ServerProcess(model, tmp_path / "log", ready=False)
    try:
        time.sleep(1)  # Python has begun, torch is not there yet
        server.terminate()
        assert server.process.wait(20) == 0
    finally:
        server.close()


def test_transformers_is_imported_before_there_is_a_second_thread() -> None:
    """Two threads that first use it at the same time get an ImportError."""
    look = "'transformers.models.auto.modeling_auto' in sys.modules, 'transformers.models.auto.tokenization_auto' in sys.modules"
    code = f"import service.server, sys, threading; print(threading.active_count(), {look})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True", "True"]


def test_much_memory_is_given_back_before_the_process_ends(model: Path, tmp_path: Path) -> None:
    room = {"MAX_RUNNING_REQUESTS": "1024", "KV_CACHE_MIB": "4096"}
    server = ServerProcess(model, tmp_path / "log", ready=True, **room)
    try:
        server.terminate()
        assert server.process.wait(20) == 0
        assert server.errors.read_text() == ""
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
        assert server.errors.read_text().splitlines()[-1].startswith(f"{tmp_path / 'empty'}: ")
    finally:
        server.close()

"""Users of the endpoint who keep asking: each a thread with one official client, whose connection is kept alive."""

import threading
from types import TracebackType

import openai

ANSWER_SECONDS = 120.0  # a full queue on two cores


class Clients:
    """While entered, ``count`` users ask one question after the other, each for ``tokens`` tokens."""

    def __init__(self, endpoint_url: str, count: int, tokens: int) -> None:
        self._endpoint_url = endpoint_url
        self._tokens = tokens
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with openai.OpenAI(
            base_url=self._endpoint_url, api_key="none", max_retries=0, timeout=ANSWER_SECONDS
        ) as client:
            while not self._stop.is_set():
                try:
                    answer = client.chat.completions.create(
                        model="chat", max_tokens=self._tokens, messages=[{"role": "user", "content": "Count."}]
                    )
                except openai.OpenAIError as error:
                    self.failures.append(repr(error))
                    self._stop.wait(1)
                else:
                    assert answer.usage
                    assert answer.usage.completion_tokens
                    self.answers += 1

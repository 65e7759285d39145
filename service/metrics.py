"""What the server counts, under vLLM's names."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service import metric_names as names

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FINISHED_REASONS = ("stop", "length", "abort", "error")


class Metrics:
    """Every series of one server; all carry the model's name and exist from the start, at zero."""

    def __init__(self, model_name: str) -> None:
        self._registry = CollectorRegistry()
        self._model_name = model_name
        self._running = self._gauge(names.REQUESTS_RUNNING, "Requests that are worked on.")
        self._waiting = self._gauge(names.REQUESTS_WAITING, "Requests that wait for their turn.")
        self._cache = self._gauge(names.KV_CACHE_USAGE, "Share of the room for keys and values in use, 0 to 1.")
        self.prompt_tokens = self._counter(names.PROMPT_TOKENS, "Tokens of prompts.")
        self.generation_tokens = self._counter(names.GENERATION_TOKENS, "Tokens generated.")
        self.first_token = self._histogram(
            names.TIME_TO_FIRST_TOKEN, "From arrival to the first token.", names.FIRST_TOKEN_BUCKETS
        )
        self.inter_token = self._histogram(
            names.INTER_TOKEN_LATENCY, "Between two tokens of a request.", names.INTER_TOKEN_BUCKETS
        )
        self.latency = self._histogram(names.REQUEST_LATENCY, "From arrival to the last token.", names.REQUEST_BUCKETS)
        self.queue_time = self._histogram(names.QUEUE_TIME, "From arrival to its turn.", names.REQUEST_BUCKETS)
        labels = (names.MODEL_NAME_LABEL, names.FINISHED_REASON_LABEL)
        self._success = Counter(names.REQUEST_SUCCESS, "Requests that ended.", labels, registry=self._registry)
        for reason in FINISHED_REASONS:
            self._success.labels(model_name, reason)

    def follow(self, *, running: Callable[[], float], waiting: Callable[[], float], cache: Callable[[], float]) -> None:
        """Gauges that ask when they are scraped, so that they cannot drift from what they count."""
        for gauge, value in ((self._running, running), (self._waiting, waiting), (self._cache, cache)):
            gauge.set_function(value)

    def finished(self, reason: str) -> None:
        self._success.labels(self._model_name, reason).inc()

    def text(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(name, what, (names.MODEL_NAME_LABEL,), registry=self._registry).labels(self._model_name)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, (names.MODEL_NAME_LABEL,), registry=self._registry).labels(self._model_name)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        labelled = Histogram(name, what, (names.MODEL_NAME_LABEL,), buckets=buckets, registry=self._registry)
        return labelled.labels(self._model_name)

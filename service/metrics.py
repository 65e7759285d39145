"""What the server counts, under vLLM's names where it has one."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service import metric_names as names

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FINISHED_REASONS = ("stop", "length", "abort", "error")
WAITING_REASONS = ("capacity", "deferred")
# The third of vLLM's sources, a cache outside the process, is always 0 here.
COMPUTED, CACHED, EXTERNAL = "local_compute", "local_cache_hit", "external_kv_transfer"
ENGINE = "0"  # vLLM numbers the engines of a server; this one has one


class Metrics:
    """Every series of one server; all carry the model's name and exist from the start, at zero."""

    def __init__(self, model_name: str) -> None:
        self._registry = CollectorRegistry()
        self._values = (model_name, ENGINE)
        self._running = self._gauge(names.REQUESTS_RUNNING, "Requests that are worked on.")
        self._waiting = self._gauge(names.REQUESTS_WAITING, "Requests that wait for their turn.")
        self._cache = self._gauge(names.KV_CACHE_USAGE, "Share of the room for keys and values in use, 0 to 1.")
        labels = (names.MODEL_NAME_LABEL, names.ENGINE_LABEL)
        by_reason = Gauge(
            names.REQUESTS_WAITING_BY_REASON,
            "Requests that wait, by what they wait for.",
            (*labels, names.REASON_LABEL),
            registry=self._registry,
        )
        self._waiting_for = {reason: by_reason.labels(*self._values, reason) for reason in WAITING_REASONS}
        self.prompt_tokens = self._counter(names.PROMPT_TOKENS, "Tokens of prompts.")
        self.prompt_tokens_cached = self._counter(
            names.PROMPT_TOKENS_CACHED, "Tokens of prompts that were not computed."
        )
        self.generation_tokens = self._counter(names.GENERATION_TOKENS, "Tokens generated.")
        self.preemptions = self._counter(names.PREEMPTIONS, "Times a request lost its place in the cache.")
        self.prefix_queries = self._counter(names.PREFIX_CACHE_QUERIES, "Tokens looked up in the prefix cache.")
        self.prefix_hits = self._counter(names.PREFIX_CACHE_HITS, "Tokens found in the prefix cache.")
        by_source = Counter(
            names.PROMPT_TOKENS_BY_SOURCE,
            "Tokens of prompts, by where their keys and values come from.",
            (*labels, names.SOURCE_LABEL),
            registry=self._registry,
        )
        self._by_source = {source: by_source.labels(*self._values, source) for source in (COMPUTED, CACHED, EXTERNAL)}
        self.first_token = self._histogram(
            names.TIME_TO_FIRST_TOKEN, "From arrival to the first token.", names.FIRST_TOKEN_BUCKETS
        )
        self.inter_token = self._histogram(
            names.INTER_TOKEN_LATENCY, "Between two tokens of a request.", names.INTER_TOKEN_BUCKETS
        )
        self.time_per_token = self._histogram(
            names.TIME_PER_OUTPUT_TOKEN, "The same, mean over a request.", names.INTER_TOKEN_BUCKETS
        )
        self.latency = self._histogram(names.REQUEST_LATENCY, "From arrival to the last token.", names.REQUEST_BUCKETS)
        self.queue_time = self._histogram(names.QUEUE_TIME, "From arrival to its turn.", names.REQUEST_BUCKETS)
        self.inference_time = self._histogram(
            names.INFERENCE_TIME, "From its turn to the last token.", names.REQUEST_BUCKETS
        )
        self.prefill_time = self._histogram(
            names.PREFILL_TIME, "From its turn to the first token.", names.REQUEST_BUCKETS
        )
        self.decode_time = self._histogram(
            names.DECODE_TIME, "From the first token to the last.", names.REQUEST_BUCKETS
        )
        self.step_tokens = self._histogram(
            names.ITERATION_TOKENS, "Tokens computed in a step.", names.ITERATION_BUCKETS
        )
        success = Counter(
            names.REQUEST_SUCCESS,
            "Requests that ended.",
            (*labels, names.FINISHED_REASON_LABEL),
            registry=self._registry,
        )
        self._success = {reason: success.labels(*self._values, reason) for reason in FINISHED_REASONS}
        refused = Counter(
            names.REQUESTS_REFUSED,
            "Requests that were not answered, or not to their end, by the error's code.",
            (*labels, names.REASON_LABEL),
            registry=self._registry,
        )
        self._refused = {reason: refused.labels(*self._values, reason) for reason in names.REFUSED_REASONS}
        self._n = self._histogram(names.REQUEST_N, "Answers that the client wanted to a prompt.", names.N_BUCKETS)
        self._lengths: dict[str, Histogram] = {}

    def follow(
        self,
        *,
        running: Callable[[], float],
        waiting: Callable[[], float],
        deferred: Callable[[], float],
        cache: Callable[[], float],
    ) -> None:
        """Gauges that ask when they are scraped, so that they cannot drift from what they count.

        ``deferred``: those of ``waiting`` that had a place and lost it; the others wait for a place.
        """
        self._running.set_function(running)
        self._waiting.set_function(waiting)
        self._cache.set_function(cache)
        self._waiting_for["capacity"].set_function(lambda: waiting() - deferred())
        self._waiting_for["deferred"].set_function(deferred)

    def loaded(self, context_tokens: int) -> None:
        """Adds the histograms whose buckets depend on the model."""
        buckets = names.length_buckets(context_tokens)
        for name, what in (
            (names.REQUEST_PROMPT_TOKENS, "Tokens of the prompt."),
            (names.REQUEST_GENERATION_TOKENS, "Tokens generated."),
            (names.REQUEST_MAX_TOKENS, "Tokens that the client allowed."),
            (names.REQUEST_LONGEST_ANSWER, "Tokens of the longest answer to a prompt."),
            (names.REQUEST_PREFILL_COMPUTED, "Tokens of the prompt that were computed, not found in the cache."),
        ):
            self._lengths[name] = self._histogram(name, what, buckets)

    def prefilled(self, prompt_tokens: int, cached_tokens: int) -> None:
        """A prompt is behind a request."""
        self.prompt_tokens.inc(prompt_tokens)
        self.prompt_tokens_cached.inc(cached_tokens)
        self.prefix_queries.inc(prompt_tokens)
        self.prefix_hits.inc(cached_tokens)
        self._by_source[COMPUTED].inc(prompt_tokens - cached_tokens)
        self._by_source[CACHED].inc(cached_tokens)

    def finished(self, reason: str) -> None:
        self._success[reason].inc()

    def lengths(self, *, prompt: int, cached: int, generated: int, allowed: int) -> None:
        """How long a request was that came to its end, in tokens."""
        self._lengths[names.REQUEST_PROMPT_TOKENS].observe(prompt)
        self._lengths[names.REQUEST_PREFILL_COMPUTED].observe(prompt - cached)
        self._lengths[names.REQUEST_GENERATION_TOKENS].observe(generated)
        self._lengths[names.REQUEST_MAX_TOKENS].observe(allowed)

    def answered(self, *, n: int, longest: int) -> None:
        """To a prompt, ``n`` times; ``longest``: tokens of the longest answer."""
        self._n.observe(n)
        self._lengths[names.REQUEST_LONGEST_ANSWER].observe(longest)

    def refused(self, code: str | None) -> None:
        """An error was the answer, or its end; those with other codes than :data:`names.REFUSED_REASONS` are not counted."""
        if code in self._refused:
            self._refused[code].inc()

    def text(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        labels = (names.MODEL_NAME_LABEL, names.ENGINE_LABEL)
        return Gauge(name, what, labels, registry=self._registry).labels(*self._values)

    def _counter(self, name: str, what: str) -> Counter:
        labels = (names.MODEL_NAME_LABEL, names.ENGINE_LABEL)
        return Counter(name, what, labels, registry=self._registry).labels(*self._values)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        labels = (names.MODEL_NAME_LABEL, names.ENGINE_LABEL)
        return Histogram(name, what, labels, buckets=buckets, registry=self._registry).labels(*self._values)

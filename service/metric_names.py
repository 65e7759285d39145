"""Names, labels and buckets of the metrics: vLLM's, so that scalers and dashboards made for it work here, and one of our own.

Source: vLLM's ``vllm/v1/metrics/loggers.py``. Standard library only: the autoscaling rules are built from these names.
"""

MODEL_NAME_LABEL = "model_name"
ENGINE_LABEL = "engine"
FINISHED_REASON_LABEL = "finished_reason"
REASON_LABEL = "reason"
SOURCE_LABEL = "source"

REQUESTS_RUNNING = "vllm:num_requests_running"
REQUESTS_WAITING = "vllm:num_requests_waiting"
REQUESTS_WAITING_BY_REASON = "vllm:num_requests_waiting_by_reason"
KV_CACHE_USAGE = "vllm:kv_cache_usage_perc"  # 0 to 1, whatever the name says

# Counters: Prometheus' text format adds "_total".
PROMPT_TOKENS = "vllm:prompt_tokens"
PROMPT_TOKENS_BY_SOURCE = "vllm:prompt_tokens_by_source"
PROMPT_TOKENS_CACHED = "vllm:prompt_tokens_cached"
GENERATION_TOKENS = "vllm:generation_tokens"
REQUEST_SUCCESS = "vllm:request_success"
PREEMPTIONS = "vllm:num_preemptions"
PREFIX_CACHE_QUERIES = "vllm:prefix_cache_queries"  # tokens looked up
PREFIX_CACHE_HITS = "vllm:prefix_cache_hits"  # tokens found

TIME_TO_FIRST_TOKEN = "vllm:time_to_first_token_seconds"
INTER_TOKEN_LATENCY = "vllm:inter_token_latency_seconds"
TIME_PER_OUTPUT_TOKEN = "vllm:request_time_per_output_token_seconds"
REQUEST_LATENCY = "vllm:e2e_request_latency_seconds"
QUEUE_TIME = "vllm:request_queue_time_seconds"
INFERENCE_TIME = "vllm:request_inference_time_seconds"
PREFILL_TIME = "vllm:request_prefill_time_seconds"
DECODE_TIME = "vllm:request_decode_time_seconds"
ITERATION_TOKENS = "vllm:iteration_tokens_total"  # a histogram, whatever the name says
REQUEST_PROMPT_TOKENS = "vllm:request_prompt_tokens"
REQUEST_GENERATION_TOKENS = "vllm:request_generation_tokens"
REQUEST_MAX_TOKENS = "vllm:request_params_max_tokens"
REQUEST_PREFILL_COMPUTED = "vllm:request_prefill_kv_computed_tokens"
REQUEST_N = "vllm:request_params_n"
REQUEST_LONGEST_ANSWER = "vllm:request_max_num_generation_tokens"  # of the n

# Our own, by the code of the error: vLLM's releases have no counter of what they refuse.
REQUESTS_REFUSED = "llm:requests_refused"
REFUSED_QUEUE_FULL = "queue_full"
REFUSED_CONTEXT_LENGTH = "context_length_exceeded"
REFUSED_UNAVAILABLE = "unavailable"  # it loads, or is shut down
REFUSED_TIMEOUT = "request_timeout"
REFUSED_REASONS = (REFUSED_QUEUE_FULL, REFUSED_CONTEXT_LENGTH, REFUSED_UNAVAILABLE, REFUSED_TIMEOUT)

FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
INTER_TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
N_BUCKETS = (1, 2, 5, 10, 20)
ITERATION_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def length_buckets(context_tokens: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50 ... up to the context."""
    powers = range(len(str(context_tokens)))
    return tuple(bound for power in powers for digit in (1, 2, 5) if (bound := digit * 10**power) <= context_tokens)

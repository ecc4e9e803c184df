"""Rows of the dashboard of workers, with the own metrics of vLLM's engines and Ray's nodes."""

from __future__ import annotations

from deploy.monitoring.boards.common import quantiles
from deploy.monitoring.model import AMBER, GREEN, RED, Panel, Query, Row


def each(name: str, words: str = "") -> Query:
    """A worker's own series, one line a worker."""
    return Query(f"{name}{{@}}", f"{words} {{{{worker}}}} {{{{job_id}}}}".strip())


ENGINES = Row(
    "Engines (vLLM)",
    (
        Panel(
            "Requests",
            (each("vllm:num_requests_running", "running"), each("vllm:num_requests_waiting", "waiting")),
            "In an engine's batches, and waiting for room in them. Always waiting: lower `concurrent_groups`.",
        ),
        Panel(
            "KV cache in use",
            (each("vllm:kv_cache_usage_perc"),),
            "Share of blocks. At 1 requests are preempted and computed again.",
            unit="percentunit",
            limits=((0.8, AMBER), (0.95, RED)),
        ),
        Panel(
            "Tokens a second",
            (
                Query(
                    "sum by (worker) (rate(vllm:generation_tokens_total{@}[$__rate_interval]))", "sampled {{worker}}"
                ),
                Query("sum by (worker) (rate(vllm:prompt_tokens_total{@}[$__rate_interval]))", "prompts {{worker}}"),
            ),
            "What each engine computes.",
        ),
        Panel(
            "Time to first token",
            quantiles("vllm:time_to_first_token_seconds"),
            "From request to the first token, all engines together.",
            unit="s",
        ),
        Panel(
            "Time between tokens",
            quantiles("vllm:inter_token_latency_seconds"),
            "From one token of a completion to the next.",
            unit="s",
        ),
        Panel(
            "Time in the engine's queue",
            quantiles("vllm:request_queue_time_seconds"),
            "Before a request's prompt is computed.",
            unit="s",
        ),
        Panel(
            "Whole request",
            quantiles("vllm:e2e_request_latency_seconds"),
            "From request to the last token.",
            unit="s",
        ),
        Panel(
            "Preemptions a second",
            (Query("sum by (worker) (rate(vllm:num_preemptions_total{@}[$__rate_interval]))", "{{worker}}"),),
            "Requests that lost their place in the cache. A weight load preempts what is running; between loads it is "
            "a sign of too small a cache.",
        ),
        Panel(
            "Requests by outcome",
            (
                Query(
                    "sum by (finished_reason) (rate(vllm:request_success_total{@}[$__rate_interval]))",
                    "{{finished_reason}}",
                ),
            ),
            "Mostly length: answers are cut off at `rollout.max_tokens`.",
        ),
    ),
)

MEMORY = "sum by (node) (ray_node_mem_used) / sum by (node) (ray_node_mem_total)"
NODES = Row(
    "Nodes (Ray)",
    (
        Panel(
            "Actors",
            (Query('sum by (Name, State) (ray_actors{Source="gcs"})', "{{Name}} {{State}}"),),
            "One actor is one worker. PENDING_CREATION for long: no node has room for it.",
        ),
        Panel(
            "CPU",
            (Query("max by (node) (ray_node_cpu_utilization)", "{{node}}"),),
            "Of all cores of a node.",
            unit="percent",
            limits=((90.0, AMBER),),
        ),
        Panel(
            "Memory",
            (Query(MEMORY, "{{node}}"),),
            "In use on a node. Near 1 the kernel kills somebody.",
            unit="percentunit",
            limits=((0.85, AMBER), (0.95, RED)),
        ),
        Panel(
            "Disk",
            (Query("max by (node) (ray_node_disk_utilization_percentage)", "{{node}}"),),
            "A full disk stops checkpoints and weight versions.",
            unit="percent",
            limits=((80.0, AMBER), (90.0, RED)),
        ),
        Panel(
            "Object store",
            (Query("sum by (Location) (ray_object_store_memory)", "{{Location}}"),),
            "Near 0: groups and weights go through Redis and files, not through Ray.",
            unit="bytes",
        ),
    ),
)

GPUS = Row(
    "GPUs (empty without one)",
    (
        Panel(
            "GPU use",
            (Query("max by (node, GpuIndex) (ray_node_gpus_utilization)", "{{node}} {{GpuIndex}}"),),
            "Share of time in which a kernel ran.",
            unit="percent",
            width=12,
            below=RED,
            limits=((30.0, AMBER), (60.0, GREEN)),
            absent_without="GPU",
        ),
        Panel(
            "GPU memory",
            (
                Query(
                    "max by (node, GpuIndex) (ray_node_gram_used) / (max by (node, GpuIndex) (ray_node_gram_used) "
                    "+ max by (node, GpuIndex) (ray_node_gram_available))",
                    "{{node}} {{GpuIndex}}",
                ),
            ),
            "In use. An engine takes what it may at its start.",
            unit="percentunit",
            width=12,
            absent_without="GPU",
        ),
    ),
)

ROWS = (ENGINES, NODES, GPUS)

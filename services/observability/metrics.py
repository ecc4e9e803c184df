"""Every metric we export, as one list: name, kind, labels, and where its value comes from.

Exporters and dashboards take names from here and nowhere else. Labels are bounded: no prompt, group or worker ids. The
job's label is `job_id`, because Prometheus keeps `job` for its own scrape jobs. Job-level figures are exported by the
API from Redis, so that they outlive a dead learner; workers export only their own. Their series have no `job_id`,
`kind` and `worker`: service discovery adds these labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.records.ratios import RatioFigures
from services.records.step import StepRecord
from services.records.worker import WorkerKind
from sspo_core.diagnostics.figures import RATIO_BUCKETS as RATIO_BUCKETS

Kind = Literal["gauge", "counter", "histogram"]
Source = Literal["api", "job", "step", "worker"]
StepValue = Callable[[StepRecord], float | Sequence[float] | Mapping[str, RatioFigures] | None]
"""Reads a figure of a step record: a number, counts by ratio bucket, or figures by "STALENESS/UPDATE"."""

STALENESS_BUCKETS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0)
"""Upper edges, in steps."""
SECONDS_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
GRADER_SECONDS_BUCKETS = (0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MAX_STALENESS_LABEL = 8
MAX_UPDATE_LABEL = 7
"""Buckets beyond these are in the step records, but get no series."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    `source` says who fills it: "api" is the API process itself, "job" the job's state in Redis, "step" the latest step
    record, of which `figure` reads it, "worker" the exporter of a worker of kind `worker`.
    """

    name: str
    kind: Kind
    help: str
    source: Source
    labels: tuple[str, ...] = ()
    figure: StepValue | None = None
    worker: WorkerKind | None = None
    buckets: tuple[float, ...] = ()
    """Upper edges of a worker's histogram."""


JOB = ("job_id",)


def _job(name: str, kind: Kind, help: str, *labels: str) -> Metric:
    return Metric(name, kind, help, "job", (*JOB, *labels))


def _step(name: str, figure: StepValue, help: str, *labels: str) -> Metric:
    return Metric(name, "gauge", f"{help} (latest step)", "step", (*JOB, *labels), figure)


def _counter(worker: WorkerKind, name: str, help: str, *labels: str) -> Metric:
    return Metric(name, "counter", help, "worker", labels, worker=worker)


def _histogram(worker: WorkerKind, name: str, buckets: tuple[float, ...], help: str, *labels: str) -> Metric:
    return Metric(name, "histogram", help, "worker", labels, worker=worker, buckets=buckets)


METRICS: tuple[Metric, ...] = (
    Metric("sspo_build_info", "gauge", "Version of the service, always 1", "api", ("version",)),
    Metric("sspo_store_up", "gauge", "1 when Redis answered this scrape", "api"),
    Metric("sspo_jobs", "gauge", "Jobs by status", "api", ("status",)),
    Metric("http_request_duration_seconds", "histogram", "Requests to the API", "api", ("method", "route", "code")),
    # Job
    _job("sspo_learner_step", "gauge", "Next step of the learner; all below are committed"),
    _job("sspo_learner_steps_wanted", "gauge", "Steps the job ends after"),
    _job("sspo_policy_version", "gauge", "Newest published weights"),
    _job("sspo_learner_tokens_total", "counter", "Completion tokens trained, undone ones included"),
    _job("sspo_job_waiting_seconds", "gauge", "How long the job has been waiting for what it waits for now"),
    _job("sspo_groups_issued_total", "counter", "Groups issued"),
    _job("sspo_groups_trained_total", "counter", "Groups trained, undone ones included"),
    _job("sspo_groups_dropped_total", "counter", "Groups dropped", "reason"),
    _job("sspo_groups_in_flight", "gauge", "Unfinished groups found in the streams"),
    _job("sspo_groups_missing", "gauge", "Groups neither finished nor found; 0 unless something is wrong"),
    _job("sspo_queue_entries", "gauge", "Entries of a stream", "queue"),
    _job("sspo_queue_bytes", "gauge", "Payload bytes of a stream", "queue"),
    _job("sspo_queue_oldest_seconds", "gauge", "Age of a stream's oldest entry", "queue"),
    _job("sspo_tokens_wasted_total", "counter", "Completion tokens that were sampled and not trained", "reason"),
    _job("sspo_dead_letter_total", "counter", "Messages nobody could read", "reason"),
    _job("sspo_dead_letters_forgotten_total", "counter", "Dead letters that made room for newer ones"),
    _job("sspo_rollout_workers", "gauge", "Rollout workers by state, and desired", "state"),
    _job("sspo_reward_workers", "gauge", "Reward workers by state, and desired", "state"),
    _job("sspo_learner_workers", "gauge", "Learners by state", "state"),
    _job("sspo_worker_policy_version_min", "gauge", "Oldest weights among rollout workers that are ready or syncing"),
    _job("sspo_queue_pending_entries", "gauge", "Entries of a stream that a worker holds", "queue"),
    _job(
        "sspo_queue_redelivered_total",
        "counter",
        "Entries taken over: of workers that died, hung, or gave them back",
        "queue",
    ),
    _job("sspo_staleness_in_flight_steps_max", "gauge", "Staleness of the oldest group being sampled or graded"),
    _job("sspo_staleness_queued_steps_max", "gauge", "Staleness of the oldest group that waits for the learner"),
    _job("sspo_worker_restarts_total", "counter", "Workers started in the place of others", "kind"),
    _job("sspo_canary_failures_total", "counter", "Engines that did not answer as their weights must"),
    _job("sspo_finding", "gauge", "1 for each warning or error that an explanation of the job has now", "finding"),
    _job("sspo_checkpoint_step", "gauge", "Steps in the newest checkpoint"),
    # Step
    _step("sspo_learner_step_seconds", lambda s: s.seconds, "Seconds from batch to record"),
    _step("sspo_learner_last_step_timestamp_seconds", lambda s: s.time, "When the step was committed"),
    _step("sspo_learner_loss", lambda s: s.loss, "Loss, mean over updates"),
    _step("sspo_grad_norm", lambda s: s.grad_norm, "Gradient norm before clipping, mean over updates"),
    _step("sspo_learning_rate", lambda s: s.learning_rate, "Learning rate"),
    _step("sspo_skipped_updates", lambda s: s.skipped_updates_total, "Updates skipped so far for non-finite values"),
    _step("sspo_completion_tokens_mean", lambda s: s.completion_tokens_mean, "Tokens a completion"),
    _step("sspo_reward_mean", lambda s: s.reward_mean, "Mean reward"),
    _step("sspo_reward_std", lambda s: s.reward_std, "Standard deviation of rewards"),
    _step(
        "sspo_reward_zero_variance_groups_ratio",
        lambda s: s.reward_zero_variance_groups_ratio,
        "Groups whose rewards are equal",
    ),
    _step("sspo_staleness_steps_mean", lambda s: s.staleness_mean, "Mean staleness of trained trajectories"),
    _step("sspo_staleness_steps_max", lambda s: s.staleness_max, "Largest staleness of trained trajectories"),
    _step("sspo_is_ratio_mean", lambda s: s.drift.ratio_mean, "Token ratio, mean"),
    _step("sspo_is_ratio_std", lambda s: s.drift.ratio_std, "Token ratio, standard deviation"),
    _step("sspo_is_ratio_min", lambda s: s.drift.ratio_min, "Token ratio, smallest"),
    _step("sspo_is_ratio_max", lambda s: s.drift.ratio_max, "Token ratio, largest"),
    _step("sspo_is_log_ratio_abs_p50", lambda s: s.drift.log_ratio_abs_p50, "Absolute log ratio, median"),
    _step("sspo_is_log_ratio_abs_p99", lambda s: s.drift.log_ratio_abs_p99, "Absolute log ratio, 99th percentile"),
    _step("sspo_is_log_ratio_abs_max", lambda s: s.drift.log_ratio_abs_max, "Absolute log ratio, largest"),
    _step(
        "sspo_is_tokens_outside_band_ratio",
        lambda s: s.drift.outside_band_ratio,
        "Tokens with a ratio outside 0.9..1.1",
    ),
    _step("sspo_is_effective_sample_size_ratio", lambda s: s.drift.ess_token, "Effective sample size of token ratios"),
    _step(
        "sspo_seq_is_effective_sample_size_ratio",
        lambda s: s.drift.ess_sequence,
        "Effective sample size of sequence ratios",
    ),
    _step("sspo_seq_is_ratio_mean", lambda s: s.drift.sequence_ratio_mean, "Sequence ratio (geometric mean), mean"),
    _step("sspo_seq_is_ratio_min", lambda s: s.drift.sequence_ratio_min, "Sequence ratio, smallest"),
    _step("sspo_seq_is_ratio_max", lambda s: s.drift.sequence_ratio_max, "Sequence ratio, largest"),
    _step("sspo_kl_behaviour_k1", lambda s: s.drift.kl_k1, "KL(behaviour, policy), estimator k1"),
    _step("sspo_kl_behaviour_k3", lambda s: s.drift.kl_k3, "KL(behaviour, policy), estimator k3"),
    _step("sspo_chi2_token", lambda s: s.drift.chi2_token, "Chi-squared of token ratios"),
    _step("sspo_chi2_seq", lambda s: s.drift.chi2_sequence, "Chi-squared of whole-sequence ratios"),
    _step("sspo_gate_mean", lambda s: s.drift.gate_mean, "Gate value, mean"),
    _step(
        "sspo_gate_weight_mean",
        lambda s: s.drift.gate_weight_mean,
        "Weight of a token's gradient against REINFORCE, mean",
    ),
    _step(
        "sspo_gate_weight_positive_mean",
        lambda s: s.drift.gate_weight_mean_positive,
        "The same over tokens with a positive advantage",
    ),
    _step(
        "sspo_gate_weight_negative_mean",
        lambda s: s.drift.gate_weight_mean_negative,
        "The same over tokens with a negative advantage",
    ),
    _step(
        "sspo_gate_saturated_ratio",
        lambda s: s.drift.gate_saturated_ratio,
        "Tokens whose gate took nine tenths of the gradient",
    ),
    _step("sspo_effective_update_ratio", lambda s: s.drift.effective_update_ratio, "Effective update ratio"),
    _step("sspo_clip_ratio", lambda s: s.drift.clip_fraction, "Tokens without any gradient"),
    _step(
        "sspo_engine_mismatch_kl_k3",
        lambda s: s.drift.mismatch_kl_k3,
        "k3 of tokens recomputed under their own weights",
    ),
    _step(
        "sspo_engine_mismatch_abs_logp",
        lambda s: s.drift.mismatch_log_ratio_abs_max,
        "Largest difference of log-probs there",
    ),
    _step(
        "sspo_engine_mismatch_outside_band_ratio",
        lambda s: s.drift.mismatch.outside_band_ratio if s.drift.mismatch else None,
        "Tokens there with a ratio outside 0.9..1.1",
    ),
    _step(
        "sspo_engine_mismatch_tokens",
        lambda s: s.drift.mismatch.tokens if s.drift.mismatch else None,
        "Tokens the mismatch was measured on",
    ),
    _step("sspo_drift_share_ratio", lambda s: s.drift.drift_share, "Share of k3 that is drift and not engine mismatch"),
    _step(
        "sspo_is_ratio_tokens",
        lambda s: s.drift.histograms.ratio_histogram,
        "Tokens by ratio bucket, not cumulative",
        "le",
    ),
    _step(
        "sspo_seq_is_ratio_sequences",
        lambda s: s.drift.histograms.sequence_ratio_histogram,
        "Sequences by ratio bucket, not cumulative",
        "le",
    ),
    _step(
        "sspo_drift_bucket_kl_k3",
        lambda s: s.drift.buckets,
        "k3 by staleness and update in the step",
        "staleness",
        "update",
    ),
    # Learner
    _histogram("learner", "sspo_is_ratio", RATIO_BUCKETS, "Token ratios by staleness in steps", "staleness"),
    _histogram(
        "learner", "sspo_seq_is_ratio", RATIO_BUCKETS, "Sequence ratios (geometric mean) by staleness", "staleness"
    ),
    _histogram("learner", "sspo_staleness_steps", STALENESS_BUCKETS, "Staleness of trained trajectories"),
    _histogram("learner", "sspo_learner_step_duration_seconds", SECONDS_BUCKETS, "Seconds from batch to record"),
    _counter("learner", "sspo_learner_wait_seconds_total", "Seconds the learner did not train, by what for", "cause"),
    # Rollout
    _histogram("rollout", "sspo_weight_sync_seconds", SECONDS_BUCKETS, "Loading a version and proving it"),
    _counter("rollout", "sspo_weight_sync_bytes_total", "Bytes of the versions that were loaded"),
    _counter("rollout", "sspo_weight_sync_failures_total", "Loads that failed, by error", "cause"),
    _counter("rollout", "sspo_rollout_completion_tokens_total", "Completion tokens sampled"),
    _counter("rollout", "sspo_rollout_groups_total", "Groups sampled"),
    # Reward
    _histogram("reward", "sspo_grader_seconds", GRADER_SECONDS_BUCKETS, "One grader call", "grader"),
    _counter("reward", "sspo_grader_errors_total", "Grader calls that failed, by error", "grader", "error"),
)

"""What each figure of drift means, what is normal, and what to do: the descriptions of the drift panels."""

from __future__ import annotations


def told(means: str, normal: str, do: str) -> str:
    """A description in three parts."""
    return f"**What it means.** {means}\n\n**What is normal.** {normal}\n\n**What to do.** {do}"


OUTSIDE = told(
    "Share of trained tokens whose probability under the new policy differs by more than a tenth from what it was when "
    "they were sampled (ratio outside 0.9 to 1.1).",
    "0 to 0.2 with one update a step and staleness 1; up to 0.35 at staleness 2 or with several updates. The dashed "
    "lines are where the guard calms down and where it warns.",
    "Look at k3 by staleness and update: if update 0 is far already, samples are old (lower `max_staleness`, or use "
    "fewer rollout workers); if later updates are, the learning rate is too high.",
)
ESS_TOKEN = told(
    "Effective sample size: the share of tokens that still count once each is weighted by its ratio. 1: all alike. "
    "0.3: a third of the batch does all the work.",
    "0.85 to 1. Below 0.5 the estimate of the gradient becomes noisy.",
    "As for tokens outside the band. Soft gates bound single tokens, but can't make up for a batch that nobody would "
    "sample any more.",
)
ESS_SEQUENCE = told(
    "The same over sequences, weighted by the geometric mean of their token ratios: what SSPO weights by.",
    "0.95 to 1: the geometric mean changes slowly.",
    "A low value with a high one for tokens means that whole answers became likelier or unlikelier: look at reward and "
    "at the sequence ratios.",
)
K3 = told(
    "Distance between the policy that sampled and the one that is trained (k3, an estimate of KL, never negative).",
    "1e-4 to 5e-2. It grows with staleness and with each update of a step.",
    "Above 0.1: lower the learning rate or `max_staleness`. If it jumps within one step, look at the newest samples: "
    "`GET /v1/x/jobs/ID/samples`.",
)
SHARE = told(
    "Share of that distance that training made. The rest is there under the very weights that sampled: the engine "
    "computes other log-probs than the learner.",
    "Near 1 while the job drifts at all. Near 0 means that ratios are mostly noise of the engine.",
    "Low, and k3 of the engine above 1e-4: compare dtypes (`rollout.dtype`), sampling settings, the engine's version. "
    "Training more slowly does not help.",
)
STALENESS = told(
    "Steps between the weights that sampled a trajectory and those it trained.",
    "At most `max_staleness` of the job; a synchronous job has 0.",
    "Steadily at the maximum: rollouts run ahead of the learner. That is safe, and wastes what is dropped as stale: "
    "use fewer rollout workers, or lower `concurrent_groups`.",
)
HEAT_TOKENS = told(
    "Every trained token by its ratio (upper edges at the left), over time, for one staleness; darker: more tokens.",
    "A narrow dark band around 1.0 that widens a little with each step of staleness.",
    "A band that widens at the same staleness: the policy moves faster, look at learning rate and gradient norm. One "
    "that lies beside 1: engine and learner disagree, look at the engine's share.",
)
HEAT_SEQUENCES = told(
    "The same for whole answers: geometric means of their token ratios.",
    "Narrower than tokens, since means even out.",
    "Answers far from 1 at staleness 0 are a sign of the engine; at higher staleness of fast change, or of long waits.",
)
NEWEST = told(
    "The newest step alone, by ratio; each bar ends at the value below it.",
    "Most within 0.95 to 1.05; both sides alike.",
    "One side only: an engine that truncates (top_p, top_k, min_p) or has another temperature. "
    "`sspo job explain ID` tells which.",
)
TOKEN_RATIO = told(
    "Mean, smallest and largest ratio of a step's tokens.",
    "The mean within 0.98 to 1.02; the extremes within 0.1 to 10.",
    "One extreme token is no harm: the gate bounds it. A mean that leaves 1 is a fault: `sspo job explain ID`.",
)
SEQUENCE_RATIO = told(
    "The same of whole answers (geometric mean over their tokens).",
    "The mean within 0.97 to 1.03; short answers within 0.5 to 2, long ones within 0.9 to 1.1.",
    "A spread that grows step by step: lower the learning rate or `max_staleness`.",
)
LOG_RATIO = told(
    "Distance of log-probs, token by token: median, 99th percentile, largest.",
    "Median below 0.05, 99th percentile below 2.",
    "Only the largest grows: a few rare tokens, harmless. All grow together: the policy moves too fast.",
)
CHI_SQUARED = told(
    "How much more noise plain importance weights would bring: of tokens, and of whole products of ratios.",
    "Tokens below 0.3. Products grow with the answer's length and reach any size: why SSPO does not use them.",
    "Nothing by itself; it says early what the effective sample size says late.",
)
BUCKETS = told(
    "The distance, split: by how old a sample was, and by how many updates of the same step came before.",
    "A step of staleness adds up to 0.02, an update up to 0.01.",
    "Grows with the update: lower `learning_rate` or `updates_per_step`. Grows with staleness: lower `max_staleness`. "
    "High at staleness 0, update 0: the engine.",
)
ENGINE_K3 = told(
    "The whole distance, and the engine's part: of tokens recomputed under the very weights that sampled them.",
    "Float32 engines 1e-13 to 1e-7; bf16 engines 1e-4 to 1e-3.",
    "Above 0.01 something other than rounding differs: temperature, truncation, a kernel, wrong weights. See "
    "SspoEngineMismatch in docs/runbook.md.",
)
ENGINE_OUTSIDE = told(
    "Share of tokens that lie outside 0.9 to 1.1 although no training came between.",
    "0 for float32; below 0.02 for bf16.",
    "So much noise is in every ratio: bear it with the gate, or give the engine a better dtype.",
)
ENGINE_LARGEST = told(
    "The token on which engine and learner agree least.",
    "Below 1e-3 for float32; up to 1 for bf16 on rare tokens.",
    "Alone it is no reason to act: look at k3 and at the share outside the band.",
)
ENGINE_TOKENS = told(
    "How many tokens the figures of this row rest on.",
    "From some dozens to thousands; a probe comes every `learner.mismatch_probe_every` steps.",
    "None for long: the probe is switched off, or no group is sampled wholly under one version.",
)
ON_THE_WAY = told(
    "How old the oldest group is that is being sampled or graded, and the oldest that waits for the learner.",
    "At most `max_staleness`.",
    "Beyond it a group will be dropped as stale: look for a rollout or reward worker that hangs.",
)
GATE_WEIGHT = told(
    "By what a token's gradient is multiplied, against REINFORCE: over all tokens, and by the sign of the advantage.",
    "Near 1 on fresh samples, lower with drift; a little lower for negative advantages.",
    "Far below 1: much of the batch is not learned from. Less drift helps, a wider gate hides it.",
)
SATURATED = told(
    "Tokens of whose gradient the gate took nine tenths; tokens without any; what is left on average.",
    "Saturated below 0.1, clipped 0 under soft gates, effective above 0.8.",
    "Saturated above 0.5: nobody learns from most of the batch. Lower staleness or learning rate, or widen the gate "
    "(`tau_pos`, `tau_neg`).",
)
GATE = told(
    "SSPO's weight of a sequence: the geometric mean of its tokens' gates.",
    "Around 1.",
    "It is the objective's own: compare it between jobs with the same gate only.",
)

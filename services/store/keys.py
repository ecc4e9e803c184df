"""Every Redis key, in one file. No key literal stands anywhere else.

Keys of one job share the hash tag `{job_id}`, so that Lua calls stay on one node of a Redis Cluster.
"""

from __future__ import annotations

PREFIX = "sspo"

JOBS = f"{PREFIX}:jobs"
"""Sorted set: job id -> creation time in seconds."""
FILES = f"{PREFIX}:files"
"""Sorted set: file id -> creation time in seconds."""
CONTROLLER = f"{PREFIX}:controller"
"""String with expiry: the id of the controller in charge (its lease)."""
NODES = f"{PREFIX}:nodes"
"""Hash: HOST:PORT of a Ray node's page of metrics -> the node's name."""
GRADER_REQUESTS = f"{PREFIX}:grader:requests"
"""Stream: grader runs and validations asked for over REST."""


def file(file_id: str) -> str:
    """String: one file's record (JSON)."""
    return f"{PREFIX}:file:{file_id}"


def grader_reply(request_id: str) -> str:
    """List with expiry: the answer to one grader request."""
    return f"{PREFIX}:grader:reply:{request_id}"


def job(job_id: str) -> str:
    """Hash: the job record."""
    return f"{PREFIX}:job:{{{job_id}}}"


def events(job_id: str) -> str:
    """Stream: the job's events."""
    return f"{job(job_id)}:events"


def steps(job_id: str) -> str:
    """Hash: step -> step record (JSON)."""
    return f"{job(job_id)}:steps"


def evaluations(job_id: str) -> str:
    """Hash: step -> evaluation record (JSON)."""
    return f"{job(job_id)}:evaluations"


def checkpoints(job_id: str) -> str:
    """Hash: step -> checkpoint record (JSON)."""
    return f"{job(job_id)}:checkpoints"


def workers(job_id: str) -> str:
    """Hash: worker id -> the worker's record (JSON)."""
    return f"{job(job_id)}:workers"


def operations(job_id: str) -> str:
    """Hash: operation id -> its body (JSON), for idempotent scaling."""
    return f"{job(job_id)}:operations"


def progress(job_id: str) -> str:
    """Hash: the learner's epoch, next step, published version, phase, counts by outcome."""
    return f"{job(job_id)}:progress"


def cursor(job_id: str) -> str:
    """Integer: the next group number the dispatcher gives."""
    return f"{job(job_id)}:cursor"


def finished(job_id: str) -> str:
    """Bitmap: bit n is set when group n was trained or dropped."""
    return f"{job(job_id)}:finished"


def deaths(job_id: str) -> str:
    """Hash: group number -> how many consumers died or hung holding it."""
    return f"{job(job_id)}:deaths"


def evaluation_deaths(job_id: str) -> str:
    """Hash: row of the evaluation -> how many consumers died or hung holding it."""
    return f"{job(job_id)}:evaluation_deaths"


def handed_over(job_id: str) -> str:
    """Hash: worker id -> groups it has handed over (progress for supervision)."""
    return f"{job(job_id)}:handed_over"


def stream(job_id: str, name: str) -> str:
    """Stream of groups: prompts, trajectories, scored, dead, and the evaluation streams (`eval_` + the same)."""
    return f"{job(job_id)}:stream:{name}"


def created(fingerprint: str) -> str:
    """String with expiry: the job that a create request with this fingerprint made."""
    return f"{PREFIX}:created:{fingerprint}"


def workers_started(job_id: str) -> str:
    """Hash: kind of worker -> how many were ever started; numbers their ids."""
    return f"{job(job_id)}:workers_started"


def stream_index(job_id: str, name: str) -> str:
    """Hash beside a stream: entry id -> "number step bytes tokens source"; a Lua call that changes one changes both."""
    return f"{stream(job_id, name)}:index"


def tallies(job_id: str) -> str:
    """Hash of counts: `wasted:REASON` (tokens), `dead:REASON`, `dead_forgotten`, `sampled_groups`, `sampled_bytes`,
    `redelivered:STREAM`, `restarts:KIND`, `canary_failures`."""
    return f"{job(job_id)}:tallies"


def requeues(job_id: str) -> str:
    """Hash: dead letter -> the new number of its group, "" while the wish waits."""
    return f"{job(job_id)}:requeues"


def wishes(job_id: str) -> str:
    """List: "LETTER NUMBER" of dead letters to be issued anew, first come first."""
    return f"{job(job_id)}:wishes"


def origins(job_id: str) -> str:
    """Hash: number of a requeued group -> the number whose dataset row it has."""
    return f"{job(job_id)}:origins"

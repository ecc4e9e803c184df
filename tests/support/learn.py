"""One learner as a process of its own, which a fault point may kill: `python -m tests.support.learn DATA URL SPEC`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.opening import open_learner
from services.store.client import connect

if __name__ == "__main__":
    data, url, spec = sys.argv[1:]
    print(open_learner(JobSpec.model_validate_json(spec), connect(url), Layout(Path(data))).run())

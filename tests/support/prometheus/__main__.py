"""Ask a real Prometheus every query of every panel, and what every alert measures, while a job is scaled.

    python -m tests.support.prometheus [--seconds N]

starts a service with the demo's model, a Prometheus and a job; scales its rollout workers from one to two and back
meanwhile, and prints what each question got. Exits with 1 when one of them got nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.prometheus.questions import JOB, questions, scale_up_and_down, table, unanswered
from tests.support.prometheus.server import scraping
from tests.support.service import RunningService


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="at two rollout workers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sspo-prometheus-") as folder:
        service = RunningService(Path(folder) / "data")
        service.prepare()
        try:
            service.start()
            with scraping(Path(folder), service) as prometheus:
                job_id = service.submit(**JOB)
                scale_up_and_down(service, job_id, arguments.seconds)
                answers = {question: prometheus.ask(question.expression) for question in questions(job_id)}
                firing = prometheus.ask('ALERTS{alertstate="firing"}')
        finally:
            service.stop()
    print(table(answers))
    silent = unanswered(answers)
    for question in silent:
        print(f"no answer: {question.where} / {question.title}: {question.expression}")
    print(f"{len(answers)} questions, {len(silent)} without an answer, {len(firing)} alerts")
    return 1 if silent or firing else 0


if __name__ == "__main__":
    sys.exit(main())

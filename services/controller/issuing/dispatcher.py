"""Issues groups: dataset row, prompt tokens, sampling seed, and the next number, in one Lua call.

A group follows from (job, number) alone, so a number that Redis lost can be issued again. Its row is the number's place
in a seeded permutation of the dataset, one permutation for each pass. Its sampling seed comes from (job seed, number).
A requeued dead letter gets the next number: it has the row of the number that died, and a seed of its own.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable

import structlog

from services.controller.issuing.prompts import PromptEncoder
from services.disk.layout import Layout
from services.job.datasets import Row, iter_rows
from services.job.spec import JobSpec, derived_seed
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.codec import SCHEMA_VERSION, encode, ints
from services.trajectories.dead.letters import DeadLetters
from sspo_proto.trajectory_pb2 import PromptTask, Sampling

log = structlog.get_logger()


class Dispatcher:
    """The prompts of one job."""

    def __init__(self, spec: JobSpec, client: Client, layout: Layout) -> None:
        self._spec = spec
        self._client = client
        self._encoder = PromptEncoder(layout.model(spec.model), spec.rollout)
        self._rows = list(iter_rows(layout.files / spec.training_file, spec.training_file))
        self._validation: list[Row] = []
        if spec.evaluation is not None and spec.validation_file is not None:
            rows = iter_rows(layout.files / spec.validation_file, spec.validation_file)
            self._validation = [row for row, _ in zip(rows, range(spec.evaluation.samples), strict=False)]
        self._letters = DeadLetters(client)
        self._order: tuple[int, list[int]] | None = None

    @property
    def validation_rows(self) -> int:
        """Rows of one evaluation."""
        return len(self._validation)

    def dispatch(self, count: int, step: int) -> int:
        """Issue up to `count` groups at the cursor, requeued dead letters first.

        Stops early when another dispatcher was faster.
        """
        job = self._spec.job_id
        first = streams.cursor(self._client, job)
        wishes = self._letters.wishes(job, count)
        for issued in range(count):
            number, wish = first + issued, wishes[issued] if issued < len(wishes) else None
            payload = self._task(number, step, origin=wish.origin if wish else number)
            if not streams.dispatch(self._client, job, number, payload, step, wish):
                return issued
            if wish:
                log.info("dead_letter_requeued", job=job, letter=wish.letter, number=wish.number, requeued_as=number)
        return count

    def reissue(self, numbers: tuple[int, ...], step: int) -> int:
        """Issue numbers again that are neither finished nor in a stream."""
        job = self._spec.job_id
        return sum(
            streams.reissue(
                self._client, job, number, self._task(number, step, origin=self._letters.origin(job, number)), step
            )
            for number in numbers
        )

    def evaluate(self, step: int, numbers: Iterable[int]) -> None:
        """Issue prompts of one evaluation, numbered by their row."""
        assert self._spec.evaluation is not None
        for number in numbers:
            row = self._validation[number]
            task = self._base(row, number, step)
            task.evaluation_step = step
            task.sampling.temperature = self._spec.evaluation.temperature
            task.sampling.group_size = 1
            task.sampling.seed = derived_seed(self._spec.seed, "evaluation", step, number)
            streams.add_evaluation(self._client, self._spec.job_id, number, encode(task), step)

    def _task(self, number: int, step: int, *, origin: int) -> bytes:
        """The prompt of group `number`: the row that `origin` has by the permutation, and `number`'s own seed."""
        epoch, position = divmod(origin, len(self._rows))
        if self._order is None or self._order[0] != epoch:
            order = list(range(len(self._rows)))
            random.Random(derived_seed(self._spec.seed, "order", epoch)).shuffle(order)
            self._order = (epoch, order)
        return encode(self._base(self._rows[self._order[1][position]], number, step))

    def _base(self, row: Row, number: int, step: int) -> PromptTask:
        return PromptTask(
            schema_version=SCHEMA_VERSION,
            job_id=self._spec.job_id,
            group_number=number,
            dataset_row=row.number,
            prompt_token_ids=ints(self._encoder.encode(row)),
            item_json=json.dumps(row.item),
            sampling=Sampling(
                temperature=self._spec.rollout.temperature,
                max_tokens=self._spec.rollout.max_tokens,
                seed=derived_seed(self._spec.seed, "sampling", number),
                group_size=self._spec.rollout.group_size,
                stop_token_ids=self._encoder.stop_token_ids,
            ),
            issued_step=step,
            issued_at=time.time(),
        )

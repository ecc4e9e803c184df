"""docs/job.md: the JSON schema of a job as a table for each block."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.docs.table import JsonObject, objects, table, text_of

INTRODUCTION = """# A job

<!-- Generated from the code by `make docs`; a test fails when this page is not current. -->

Everything that a job may say. A job file is the body of `POST /v1/fine_tuning/jobs` in YAML, in which the data files
may be paths beside it: `sspo job submit FILE` uploads them. `deploy/examples` has some to begin with; most jobs need no
more than `model`, `training_file`, `method` and a few fields of `x_sspo`.

- A field that is left out has its default. Unknown fields are refused, and so is text where a number belongs.
- `x_sspo` wins over `method.reinforcement.hyperparameters` where both say something.
- The answer to the request, and `GET /v1/fine_tuning/jobs/ID`, show `x_sspo` with every default filled in.
- The same as a JSON schema: [job.schema.json](job.schema.json), and `GET /v1/x/schema/job` of a running service.
  Editors with a YAML language server check a job file and explain its fields when it begins with

      # yaml-language-server: $schema=PATH/TO/docs/job.schema.json
"""

BLOCKS = (
    # Heading, the schema's definition, where it is
    ("`method`", "Method"),
    ("`method.reinforcement`", "Reinforcement"),
    ("`method.reinforcement.hyperparameters`", "Hyperparameters"),
    ("`method.reinforcement.grader`: `string_check`", "StringCheckGrader"),
    ("`method.reinforcement.grader`: `regex_match`", "RegexMatchGrader"),
    ("`integrations`", "Integration"),
    ("`integrations[0].wandb`", "WandbSpec"),
    ("`x_sspo`", "ExtensionSpec"),
    ("`x_sspo.rollout`", "RolloutSpec"),
    ("`x_sspo.learner`", "LearnerSpec"),
    ("`x_sspo.reward`", "RewardSpec"),
    ("`x_sspo.evaluation`", "EvaluationSpec"),
    ("`x_sspo.guard`", "GuardSpec"),
    ("`x_sspo.guard`: one limit", "Limit"),
    ("`x_sspo.sinks`", "SinksSpec"),
)
GRADERS = """A grader gives a completion its reward. Its templates are text with `{{ sample.output_text }}`, the
completion, and `{{ item.FIELD }}`, a field of the data file's row. A row that lacks such a field fails the job
before it starts."""
OBJECTIVES = """What is optimised; [objectives.md](objectives.md) says how they differ. Every objective also has `name`,
`kl_coefficient` and `kl_estimator`. The defaults of `sspo` are those of a job that names no `gate`; for one that
names a gate `sides` is `both`."""
SHARED = ("name", "kl_coefficient", "kl_estimator")


def job_page(schema: JsonObject) -> str:
    """The page for the schema of a job."""
    return "\n".join(_lines(schema)) + "\n"


def _lines(schema: JsonObject) -> Iterator[str]:
    blocks = objects(schema["$defs"])
    left_out = blocks.keys() - {name for _, name in BLOCKS}
    if left_out:
        raise ValueError(f"no heading for {sorted(left_out)}")
    yield INTRODUCTION
    yield from _section("The job", schema, blocks)
    for heading, name in BLOCKS:
        yield from _section(heading, blocks[name], blocks, GRADERS if name == "StringCheckGrader" else "")
        if name == "LearnerSpec":
            corrections = objects(blocks[name]["properties"])["corrections"]
            yield from _section("`x_sspo.learner.corrections`", corrections, blocks)
    yield from _objectives(objects(blocks["ExtensionSpec"]["properties"])["objective"], blocks)


def _section(heading: str, block: JsonObject, blocks: dict[str, JsonObject], more: str = "") -> Iterator[str]:
    yield f"## {heading}\n"
    if more:
        yield f"{more}\n"
    yield f"{text_of(block)}\n"
    yield from table(block, blocks)
    yield ""


def _objectives(objective: JsonObject, blocks: dict[str, JsonObject]) -> Iterator[str]:
    alternatives = objective["anyOf"]
    assert isinstance(alternatives, list)
    found = [block for block in alternatives if isinstance(block, dict)]
    yield f"## `x_sspo.objective`\n\n{OBJECTIVES}\n"
    yield from table(found[0], blocks, only=SHARED[1:])
    for block in found:
        fields = objects(block["properties"])
        yield f"\n### `{fields['name']['const']}`\n\n{text_of(block)}\n"
        if fields.keys() - set(SHARED):
            yield from table(block, blocks, only=tuple(name for name in fields if name not in SHARED))

"""Job files: the create request in YAML, in which the data files may be paths beside it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from services.job.strict_json import JsonObject

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob

FILE_FIELDS = ("training_file", "validation_file")
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class BadJobFile(ValueError):
    """A job file that can't be read as a create request."""


class _Loader(yaml.SafeLoader):
    """YAML's safe types, with `3e-4` as the number it looks like (YAML 1.1 reads it as text)."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


@dataclass(frozen=True)
class JobFile:
    """A create request, and its files that still have to be uploaded."""

    body: JsonObject
    uploads: dict[str, Path]
    """Field -> path."""


def read(path: Path) -> JobFile:
    """Read a job file. A value that is no path beside it is taken for a file id. Raises BadJobFile."""
    try:
        body = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        json.dumps(body)
    except OSError as error:
        raise BadJobFile(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadJobFile(f"{path}: not YAML: {error}") from error
    except (TypeError, ValueError) as error:  # a bare date, for one: quote it
        raise BadJobFile(f"{path}: has a value that JSON can't carry: {error}") from error
    if not isinstance(body, dict):
        raise BadJobFile(f"{path}: expected a mapping with model, training_file and method")
    uploads = {}
    for field in FILE_FIELDS:
        value = body.get(field)
        if not isinstance(value, str):
            continue
        found = path.parent / value
        if found.is_file():
            uploads[field] = found
        elif not value.startswith("file-"):
            raise BadJobFile(f"{path}: {field}: no file {found}, and {value!r} is no file id")
    return JobFile(body, uploads)


def submit(client: OpenAI, job: JobFile) -> FineTuningJob:
    """Upload what has to be, then create the job. When that is refused, the uploads are taken back."""
    from openai import APIStatusError
    from openai.types.fine_tuning import FineTuningJob

    body = dict(job.body)
    uploaded: list[str] = []
    try:
        for field, path in job.uploads.items():
            uploaded.append(client.files.create(file=path, purpose="fine-tune").id)
            body[field] = uploaded[-1]
        # The body goes as it is, so that the service names any field it does not know.
        return client.post("/fine_tuning/jobs", body=body, cast_to=FineTuningJob)
    except APIStatusError:
        for file_id in uploaded:
            client.files.delete(file_id)
        raise

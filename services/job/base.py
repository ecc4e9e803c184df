"""The base of everything that a job file may contain. The docstring under a field is its description, everywhere.

Pydantic reads the docstrings of its models; `field_docstrings` reads those of a plain dataclass.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Unknown fields are refused, and so are infinities, which JSON can't carry back.

    The docstring under a field is its description: in the JSON schema, in /docs and in docs/job.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def field_docstrings(cls: type[Any]) -> dict[str, str]:
    """Field → its text on one line, of the class and of what it inherits; a subclass's text wins."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        found |= _own(base)
    return {field.name: found[field.name] for field in dataclasses.fields(cls) if field.name in found}


@functools.cache
def _own(cls: type[Any]) -> dict[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found = {}
    for field, below in itertools.pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found

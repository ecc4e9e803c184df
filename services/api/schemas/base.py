"""The bases of requests and answers, and lists of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from services.job.base import StrictModel


class Request(StrictModel):
    """Base of every request body."""


class AnswerModel(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


Item = TypeVar("Item", bound=BaseModel)


class Listing(AnswerModel, Generic[Item]):
    """Some of a list's items."""

    object: Literal["list"] = "list"
    """Always `list`."""
    data: Sequence[Item]
    """The items."""
    has_more: bool
    """Whether there are items behind these."""


class Named(AnswerModel):
    """Something with an id."""

    id: str
    """Its id."""


NamedItem = TypeVar("NamedItem", bound=Named)


class Page(Listing[NamedItem], Generic[NamedItem]):
    """A page of a list; `after` = `last_id` asks for the next one."""

    first_id: str | None
    """Id of the first item; null on an empty page."""
    last_id: str | None
    """Id of the last item; null on an empty page."""

    @classmethod
    def of(cls, items: Sequence[NamedItem], has_more: bool) -> Page[NamedItem]:
        """The page of these items."""
        first, last = (items[0].id, items[-1].id) if items else (None, None)
        return cls(data=items, has_more=has_more, first_id=first, last_id=last)

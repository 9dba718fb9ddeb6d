"""The kinds of record: the only place where synthkd's units of data, their ids and their lineage are defined.

Invariant: a record never changes. Its id is a digest of its content, its parents are the ids it was made from.
Field names are TRL's columns to the letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from synthkd.message import Message

_PARENTS = {"parents"}


class Record(BaseModel):
    """An immutable unit of data with a content id and the ids of its parents. Subclass it to add fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    parents: tuple[str, ...] = ()
    """Ids of the records this one was made from; a run fills in the record it mapped over."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """What travels along and no student sees, such as a gold answer; saved as one JSON column."""

    @cached_property
    def id(self) -> str:
        """20 hex digits over the kind and every field but the parents."""
        content = self.model_dump(mode="json", exclude=_PARENTS, exclude_defaults=True)
        return blake2b(
            orjson.dumps((type(self).__name__, content), option=orjson.OPT_SORT_KEYS), digest_size=10
        ).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's copy, with a new id; nothing that was derived from the old fields comes along."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def variables(self) -> dict[str, Any]:
        """What a template may use of this record: its fields, and the entries of `meta`."""
        own = self.__dict__
        return {**self.meta, **{name: own[name] for name in _fields(type(self))}}


@lru_cache(maxsize=256)
def _fields(kind: type[Record]) -> tuple[str, ...]:
    return tuple(kind.model_fields)


class Prompted(Record):
    """A record with a prompt that the student sees. Not used by itself."""

    prompt: str | tuple[Message, ...]
    """The student's side: a text (one user turn), or the messages of a conversation that ends with a user turn."""

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as messages."""
        return (Message("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt

    @property
    def instruction(self) -> str:
        """The text of the last user turn."""
        if isinstance(self.prompt, str):
            return self.prompt
        return next((m.text for m in reversed(self.prompt) if m.role == "user"), "")

    def variables(self) -> dict[str, Any]:
        """Fields, entries of `meta`, and `instruction`."""
        found = super().variables()
        found["instruction"] = self.instruction
        return found

    def carried(self) -> dict[str, JsonValue]:
        """What records made from this one keep in their `meta`: its own, and the fields that a subclass added."""
        added = _added_fields(type(self))
        return {**self.meta, **self.model_dump(mode="json", include=added)} if added else dict(self.meta)


@lru_cache(maxsize=256)
def _added_fields(kind: type[Prompted]) -> set[str]:
    """Fields of a user's subclass that its built-in kind does not have."""
    builtin = next(base for base in kind.__mro__ if base.__module__ == __name__ and issubclass(base, Prompted))
    return set(kind.model_fields) - set(builtin.model_fields)


class Instruction(Prompted):
    """Something to be answered. Fields that a subclass adds are for the teacher's template; no student sees them."""


class Candidates(Prompted):
    """Several answers to one prompt, which travel with it."""

    completions: tuple[str, ...] = Field(min_length=1)
    reasonings: tuple[str | None, ...] = ()
    """The teacher's thinking for each completion, where it gave any; empty or as long as `completions`."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if self.reasonings and len(self.reasonings) != len(self.completions):
            raise ValueError(
                f"{len(self.reasonings)} reasonings for {len(self.completions)} completions: give none or one each"
            )
        return self


class Demonstration(Prompted):
    """A prompt and the completion to learn: what `SFTTrainer` takes."""

    completion: str
    reasoning: str | None = None
    """The teacher's thinking before the completion."""
    weight: float = 1.0
    """How much it counts in training, such as the share of votes it won."""


class Preference(Prompted):
    """A better and a worse completion of one prompt: what `DPOTrainer` takes."""

    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None

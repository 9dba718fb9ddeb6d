"""The kinds of record: the only place where synthkd's units of data, their ids and their lineage are defined.

Invariant: a record never changes. Its id is a digest of its content, its parents are the ids it was made from.
Field names are TRL's columns to the letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from synthkd.errors import RecordError
from synthkd.message import Message
from synthkd.ordering import canonical, in_order, may_hold_sets, plain
from synthkd.text import ADVICE, half_character, storable

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
        """20 hex digits over the kind and every field but the parents.

        Raises:
            RecordError: a text in it holds half of a character.
        """
        content = plain(self, exclude=_PARENTS, exclude_defaults=True)
        try:
            text = orjson.dumps((type(self).__name__, content), option=orjson.OPT_SORT_KEYS)
        except TypeError:
            if where := half_character(content):
                raise RecordError(f"{type(self).__name__}.{where}, {ADVICE}.", reason="unreadable text") from None
            raise
        return blake2b(text, digest_size=10).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's copy, with a new id; nothing that was derived from the old fields comes along."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def variables(self) -> dict[str, Any]:
        """What a template may use of this record: its fields, a set in one order, and the entries of `meta`."""
        own = self.__dict__
        found = {**self.meta, **{name: own[name] for name in _fields(type(self))}}
        if may_hold_sets(type(self)):
            found = {name: in_order(value) for name, value in found.items()}
        return found

    def carried(self) -> dict[str, JsonValue]:
        """What records made from this one keep in their `meta`: its own, and the fields that a subclass added."""
        added = _added_fields(type(self))
        return {**self.meta, **plain(self, include=added)} if added else dict(self.meta)


@lru_cache(maxsize=256)
def _added_fields(kind: type[Record]) -> set[str]:
    """Fields of a user's subclass that its built-in kind does not have."""
    builtin = next(base for base in kind.__mro__ if base.__module__ == __name__ and issubclass(base, Record))
    return set(kind.model_fields) - set(builtin.model_fields)


@lru_cache(maxsize=256)
def _fields(kind: type[Record]) -> tuple[str, ...]:
    return tuple(kind.model_fields)


def in_writing(record: Record) -> tuple[str, str]:
    """Id and JSON of any record: one with half of a character in it has those of its storable form."""
    try:
        return record.id, record.model_dump_json()
    except RecordError:
        body = canonical(storable(plain(record)))
        return blake2b(body, digest_size=10).hexdigest(), body.decode()


class Document(Record):
    """A text that something is made from, or that is learnt as it stands: a passage, a page, a source file."""

    text: str
    title: str | None = None
    source: str | None = None
    """Where it comes from: an address, a path, a name of a corpus."""


class Labelled(Record):
    """A text and its class: what a classifier learns from."""

    text: str
    label: str
    """The name of its class."""
    text_pair: str | None = None
    """The second text, where two are classified together."""
    soft_label: dict[str, float] = Field(default_factory=dict)
    """The probability of each class, where a teacher gave them; empty for a hard label."""
    weight: float = 1.0


class Conversation(Record):
    """A whole conversation, tool calls and their results included: what `SFTTrainer` takes as `messages`."""

    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[dict[str, JsonValue], ...] = ()
    """The tools that could be called, as JSON schemas in OpenAI's form; TRL's column."""
    weight: float = 1.0


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
    privileged_context: str | None = None
    """What the teacher was shown and the student is not: a hint, principles, a gold answer; TRL's column."""


class Masked(Demonstration):
    """A demonstration of which parts carry no loss, such as a passage that was looked up or what a tool said."""

    masked: tuple[tuple[int, int], ...]
    """Where they begin and end, in characters of the completion, in order."""

    @model_validator(mode="after")
    def _within(self) -> Self:
        places = [place for span in self.masked for place in span]
        if places != sorted(places) or (places and not 0 <= places[0] <= places[-1] <= len(self.completion)):
            raise ValueError(f"the spans {self.masked} are not in order within {len(self.completion)} characters")
        return self


class Preference(Prompted):
    """A better and a worse completion of one prompt: what `DPOTrainer` takes."""

    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None


class Ranking(Prompted):
    """Several completions of one prompt with a score each, the best first: what a listwise trainer takes."""

    completions: tuple[str, ...] = Field(min_length=1)
    scores: tuple[float, ...]
    """One for each completion, none greater than the one before it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if len(self.scores) != len(self.completions):
            raise ValueError(f"{len(self.scores)} scores for {len(self.completions)} completions: give one each")
        if any(later > earlier for earlier, later in pairwise(self.scores)):
            raise ValueError(f"the scores {self.scores} rise: put the best completion first")
        return self


class Rated(Prompted):
    """A completion and whether it is good: what `KTOTrainer` takes."""

    completion: str
    label: bool


class Steps(Prompted):
    """A completion in steps, and whether each is right: what `PRMTrainer` takes."""

    completions: tuple[str, ...] = Field(min_length=1)
    """The steps."""
    labels: tuple[bool, ...]

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.labels) != len(self.completions):
            raise ValueError(f"{len(self.labels)} labels for {len(self.completions)} steps: give one each")
        return self


class Distribution(Prompted):
    """A completion with the teacher's likeliest tokens at each place: its distribution, as far as servers tell it."""

    completion: str
    tokens: tuple[str, ...]
    """The completion's tokens, in the teacher's vocabulary."""
    top_tokens: tuple[tuple[str, ...], ...]
    """For each place its k likeliest tokens, the likeliest first."""
    top_logprobs: tuple[tuple[float, ...], ...]
    """Their log-probabilities (natural)."""
    weight: float = 1.0

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        told = [len(self.tokens), len(self.top_tokens), len(self.top_logprobs)]
        if len(set(told)) != 1:
            raise ValueError(f"{told[0]} tokens, {told[1]} lists of likeliest ones and {told[2]} of log-probabilities")
        if any(len(a) != len(b) for a, b in zip(self.top_tokens, self.top_logprobs, strict=True)):
            raise ValueError("a place has more of its likeliest tokens than log-probabilities, or fewer")
        return self

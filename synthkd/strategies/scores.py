"""Scores: strategies that ask a model how probable a text is, and write the number into `meta`.

The model is a role's, such as the student that is to be trained, and must be one that can score (`ask.score`).
Invariant: a record passes as it came, with one entry more; one that cannot be scored is rejected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Distribution, Preference, Prompted, Ranking, Rated, Record
from synthkd.strategies.branching import together

R = TypeVar("R", bound=Record)

_NO_PROMPT = (Message("user", ""),)
"""A prompt that asks for nothing: chat templates refuse to begin with an answer."""


@dataclass(frozen=True)
class Loss:
    """How surprising a completion is to a model: the mean negative log-probability (natural) of its tokens.

    Of a record with several completions the entry is a list in their order; of a `Preference`, chosen and rejected.

    Args:
        role: whose model.
        name: the entry of `meta`.
    """

    role: str = "student"
    name: str = "loss"

    def check(self, record: Prompted) -> None:
        """Refuse a record that has no completion."""
        completions_of(record, "Loss")

    async def __call__(self, record: Prompted, ask: Ask) -> Sequence[Prompted]:
        async def loss(completion: str) -> float:
            return await loss_of(ask, record.messages, completion, self.role)

        return [with_entry(record, self.name, await _each(loss, record, "Loss"))]


@dataclass(frozen=True)
class IFD:
    """Instruction-following difficulty: how little the prompt helps a model to foresee the completion.

    The perplexity of the completion with the prompt, over that without it. 1 or more: the prompt does not help; near 0:
    the completion is foreseen from the prompt.

    Args:
        role: whose model, such as the student before its training.
        name: the entry of `meta`; a list for a record with several completions.
        of: ratio of perplexities, or of losses.

    Reference: Li et al. 2023, From Quantity to Quality, arXiv:2308.12032; Li et al. 2024, Selective
        Reflection-Tuning, arXiv:2402.10110.
    """

    role: str = "student"
    name: str = "ifd"
    of: Literal["perplexity", "loss"] = "perplexity"

    def __post_init__(self) -> None:
        _checked_ratio("IFD", self.of)

    def check(self, record: Prompted) -> None:
        """Refuse a record that has no completion."""
        completions_of(record, "IFD")

    async def __call__(self, record: Prompted, ask: Ask) -> Sequence[Prompted]:
        async def ifd(completion: str) -> float:
            return await _ratio(ask, record.messages, completion, self.role, self.of)

        return [with_entry(record, self.name, await _each(ifd, record, "IFD"))]


@dataclass(frozen=True)
class ReverseIFD:
    """How little a completion helps a model to foresee its instruction: near 0 where it follows from the completion.

    Args:
        prompt: the template that asks for the instruction; it may use `completion` and what the record has.
        role: whose model.
        name: the entry of `meta`; a list for a record with several completions.
        of: ratio of perplexities, or of losses.

    Reference: Li et al. 2024, Selective Reflection-Tuning, arXiv:2402.10110.
    """

    prompt: Prompt[str] = field(default_factory=lambda: Prompt("scoring/instruction", str))
    role: str = "student"
    name: str = "r_ifd"
    of: Literal["perplexity", "loss"] = "perplexity"

    def __post_init__(self) -> None:
        _checked_ratio("ReverseIFD", self.of)

    def check(self, record: Prompted) -> None:
        """Refuse a record that has no completion, and a template that wants what it does not have."""
        completions_of(record, "ReverseIFD")
        self.prompt.check(record, "completion")

    async def __call__(self, record: Prompted, ask: Ask) -> Sequence[Prompted]:
        async def ifd(completion: str) -> float:
            asked = self.prompt.fill(record, completion=completion)
            return await _ratio(ask, asked.messages, record.instruction, self.role, self.of)

        return [with_entry(record, self.name, await _each(ifd, record, "ReverseIFD"))]


@dataclass(frozen=True)
class QueryLikelihood:
    """How probable a query is after a document: the mean log-probability (natural) of its tokens; never above 0.

    Args:
        document: a field, or an entry of `meta`, with the text; or with several, as texts or as objects with `text`,
            such as `Retrieve` writes; then the entry is a list in their order.
        query: a field or an entry of `meta` with what is searched for; `instruction` is the last user turn.
        prompt: the template that asks for the query; it may use `document` and what the record has.
        role: whose model.
        name: the entry of `meta`.

    Reference: Sachan et al. 2022, Improving Passage Retrieval with Zero-Shot Question Generation, arXiv:2204.07496.
    """

    document: str = "documents"
    query: str = "instruction"
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("scoring/query", str))
    role: str = "student"
    name: str = "query_likelihood"

    def check(self, record: Record) -> None:
        """Refuse a record without document or query, and a template that wants what it does not have."""
        self._texts(record)
        self._query(record)
        self.prompt.check(record, "document")

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        query = self._query(record)

        async def likelihood(text: str) -> float:
            asked = self.prompt.fill(record, document=text)
            return -await loss_of(ask, asked.messages, query, self.role)

        texts = self._texts(record)
        if isinstance(texts, str):
            return [with_entry(record, self.name, await likelihood(texts))]
        return [with_entry(record, self.name, await together(map(likelihood, texts)))]

    def _query(self, record: Record) -> str:
        found = record.variables().get(self.query)
        if not isinstance(found, str):
            raise ConfigError(f"QueryLikelihood(query={self.query!r}): {type(record).__name__} has no such text")
        return found

    def _texts(self, record: Record) -> str | list[str]:
        found = record.variables().get(self.document)
        if isinstance(found, str):
            return found
        if isinstance(found, Sequence):
            texts = [one.get("text") if isinstance(one, Mapping) else one for one in found]
            told = [text for text in texts if isinstance(text, str)]
            if len(told) == len(texts):
                return told
        raise ConfigError(
            f"QueryLikelihood(document={self.document!r}): {type(record).__name__} has neither a text nor a list of "
            "texts there; Retrieve(..., into='meta') writes one"
        )


def completions_of(record: Record, who: str) -> str | list[str]:
    """The completion of a record, or all of them.

    Raises:
        ConfigError: it has none.
    """
    match record:
        case Demonstration() | Rated() | Distribution():
            return record.completion
        case Candidates() | Ranking():
            return list(record.completions)
        case Preference():
            return [record.chosen, record.rejected]
    raise ConfigError(f"{who} scores completions, and {type(record).__name__} has none: answer it first")


async def loss_of(ask: Ask, messages: Sequence[Message], completion: str, role: str) -> float:
    """The mean negative log-probability of a completion's tokens under a role's model.

    Raises:
        RecordError: it has none, or the text does not fit the model.
    """
    scores = await ask.score(messages, completion, role)
    if not scores:
        raise RecordError("the text to be scored has no tokens", reason="nothing to score")
    return -math.fsum(scores) / len(scores)


async def _ratio(ask: Ask, messages: Sequence[Message], text: str, role: str, of: str) -> float:
    """Perplexity or loss of a text after messages, over that after nothing."""
    after, alone = await together(loss_of(ask, before, text, role) for before in (messages, _NO_PROMPT))
    if of == "perplexity":
        return math.exp(min(after - alone, 700.0))
    return after / alone if alone > 0 else math.inf


async def _each(score: Any, record: Record, who: str) -> JsonValue:
    texts = completions_of(record, who)
    if isinstance(texts, str):
        found: JsonValue = await score(texts)
        return found
    return await together(map(score, texts))


def with_entry(record: R, name: str, value: JsonValue) -> R:
    """A record made from another: the same with one more entry in `meta`."""
    return record.model_copy(update={"parents": (record.id,), "meta": {**record.meta, name: value}})


def _checked_ratio(who: str, of: str) -> None:
    if of not in ("perplexity", "loss"):
        raise ConfigError(f"{who}(of={of!r}): expected 'perplexity' or 'loss'")

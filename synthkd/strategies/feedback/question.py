"""A judge's question: the only place that says what a feedback prompt is shown, and what a verdict nobody can read is.

Invariant: a verdict that cannot be read abstains and is counted; it never becomes a score. Whatever is shown in an
order is shown in orders that put every text in every place equally often, as far as the number of repeats allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from synthkd.ask import Ask
from synthkd.errors import EmptyReply, ParseError, Refused, Truncated
from synthkd.prompt import Prompt
from synthkd.record import Prompted, Record
from synthkd.reply import Reply
from synthkd.request import Policy, Sampling

T = TypeVar("T")

UNREADABLE = (ParseError, Refused, Truncated, EmptyReply)
"""What makes a verdict an abstention; other errors are the record's, or the run's."""
SHOWN = ("instruction", "context", "answer", "reference")


def shown(record: Record) -> dict[str, Any]:
    """What every feedback prompt may use of a record, `None` where it has no such thing.

    `instruction`: the last user turn; `context`: the turns before it; `answer`: the completion, or a document's text;
    `reference`: a field or an entry of `meta` of that name, which the student does not see.
    """
    offered = record.variables()
    return {
        "instruction": offered.get("instruction"),
        "context": context(record),
        "answer": offered.get("completion", offered.get("text")),
        "reference": offered.get("reference"),
    }


def context(record: Record) -> str | None:
    """The turns before the last one, each with its role in front."""
    if not isinstance(record, Prompted) or isinstance(record.prompt, str) or len(record.prompt) < 2:
        return None
    return "\n\n".join(f"{turn.role}: {turn.text}" for turn in record.prompt[:-1])


def orders(rng: Random, count: int, times: int) -> Counter[tuple[int, ...]]:
    """`times` orders of `count` places, and how often each is to be used.

    The first is drawn and the next ones rotate it, so `count` of them put everything in every place once.
    """
    found: Counter[tuple[int, ...]] = Counter()
    drawn: list[int] = []
    for turn in range(times):
        shift = turn % count
        if not shift:
            drawn = rng.sample(range(count), count)
        found[(*drawn[shift:], *drawn[:shift])] += 1
    return found


@dataclass(frozen=True)
class Verdict:
    """What a judge has said of one text."""

    score: float
    reason: str = ""
    agreement: float | None = None
    """The share of its comparisons in which both orders gave the same."""


@dataclass(frozen=True)
class Question:
    """What is asked about one record: of whom, with which prompt, and with which words in it."""

    ask: Ask
    record: Record
    prompt: Prompt[Any]
    sampling: Sampling
    policy: Policy
    role: str
    fields: Mapping[str, Any]
    rng: Random = field(default_factory=Random, repr=False)
    """Its own generator, so that questions which are asked at the same time do not change each other's orders."""

    async def heard(self, reply: type[T], times: int = 1, **fields: Any) -> list[Reply[T]]:
        """The verdicts of one request that can be read; those that cannot are counted as dropped."""
        offered = {**self.fields, **fields}
        request = self.prompt.fill(self.record, sampling=self.sampling, policy=self.policy, **offered)
        try:
            return await self.ask.many(replace(request, reply=reply), times, self.role)
        except UNREADABLE as error:
            self.ask.dropped[f"verdict {error.reason}"] += times
            return []

"""Choices: the only place where a judge's choice among labels becomes a preference or a class.

Invariant: whatever is chosen from is shown in more than one order, and its shares are the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from statistics import fmean
from string import ascii_uppercase
from typing import Any

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Document, Instruction, Labelled, Preference
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import together
from synthkd.strategies.feedback.labels import chosen, with_logprobs
from synthkd.strategies.feedback.question import SHOWN, UNREADABLE, Question, orders, shown

_BETTER = "Which response is the better one: more correct, more useful, and harmless?"
_THINKING = Sampling()


@dataclass(frozen=True)
class Choose:
    """The better of two answers by a principle, with the judge's probability for it: a soft preference.

    Each pair of distinct candidates is shown in both orders, under one principle that is drawn for the record. The
    scores of the `Preference` are the mean probabilities of the two, so they sum to one; a pair that comes out even is
    dropped, and a record without any other pair rejected ("tie"). `meta["verdicts"]` says what each order chose, so
    that `filters.agreement(1.0, of="verdicts", find=str)` keeps those whose orders agree. A `Preference` is chosen
    again: its two completions may change places.

    Args:
        principles: questions that one is drawn from.
        labels: what the two answers are called; one token each.
        soft: read the probabilities of the labels' tokens, which takes a server that gives `logprobs`. Otherwise the
            choice is a typed reply, and a preference one on which both orders agree.
        rationale: a prompt that is asked before, and whose reply the choice is shown (`Prompt("feedback/weigh", str)`).
        clamp: the least probability that either answer gets, 0 to 0.5: a rationale makes judges too sure.

    Raises:
        ConfigError: arguments that make no sense; a server without log-probabilities.

    Reference: Bai et al. 2022, Constitutional AI, arXiv:2212.08073; Lee et al. 2023, RLAIF, arXiv:2309.00267.
    """

    principles: tuple[str, ...] = (_BETTER,)
    labels: tuple[str, str] = ("A", "B")
    soft: bool = True
    rationale: Prompt[str] | None = None
    clamp: float = 0.0
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("feedback/choose", str))
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "judge"

    def __post_init__(self) -> None:
        if isinstance(self.principles, str) or not self.principles:
            raise ConfigError(f"Choose(principles={self.principles!r}): expected a tuple of at least one question")
        if len(self.labels) != 2 or len(set(self.labels)) != 2 or not all(self.labels):
            raise ConfigError(f"Choose(labels={self.labels!r}): expected two different texts, such as ('A', 'B')")
        if not 0 <= self.clamp < 0.5:
            raise ConfigError(f"Choose(clamp={self.clamp}): expected at least 0 and less than 0.5, such as 0.4")

    def check(self, record: Candidates | Preference) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        added = (*SHOWN, "principle", "first", "second", "labels", "soft", "rationale")
        self.prompt.check(record, *added)
        if self.rationale is not None:
            self.rationale.check(record, *added[:-1])

    async def __call__(self, record: Candidates | Preference, ask: Ask) -> Sequence[Preference]:
        texts = record.completions if isinstance(record, Candidates) else (record.chosen, record.rejected)
        pairs = list(combinations(dict.fromkeys(texts), 2))
        if not pairs:
            raise RecordError(f"all {len(texts)} candidates are the same text", reason="tie")
        principle = ask.rng.choice(self.principles)
        sampling = with_logprobs(self.sampling) if self.soft else self.sampling
        fields = {**shown(record), "principle": principle}
        question = Question(ask, record, self.prompt, sampling, self.policy, self.role, fields)
        shares = await together(self._shares(question, *pair) for pair in pairs)
        told = [(pair, share) for pair, share in zip(pairs, shares, strict=True) if share is not None]
        if not told:
            raise RecordError(
                f"the judge chose between none of {len(pairs)} pairs in both orders", reason="judge abstained"
            )
        found = [one for pair, share in told if (one := self._preference(record, pair, share, principle)) is not None]
        if not found:
            raise RecordError(f"the judge's choices between {len(told)} pairs come out even", reason="tie")
        if len(found) < len(told):
            ask.dropped["tie"] += len(told) - len(found)
        return found

    async def _shares(self, question: Question, one: str, other: str) -> tuple[float, float] | None:
        """The first text's share when it is shown first, and when it is shown second."""
        straight, swapped = await together(self._choice(question, *pair) for pair in ((one, other), (other, one)))
        if straight is None or swapped is None:
            return None
        return straight[self.labels[0]], swapped[self.labels[1]]

    async def _choice(self, question: Question, first: str, second: str) -> dict[str, float] | None:
        thought = None
        fields = {"first": first, "second": second, "labels": self.labels, "soft": self.soft}
        if self.rationale is not None:
            offered = {**question.fields, **fields}
            weighed = self.rationale.fill(question.record, sampling=_THINKING, policy=self.policy, **offered)
            try:
                thought = await question.ask(weighed, self.role)
            except UNREADABLE as error:
                question.ask.dropped[f"rationale {error.reason}"] += 1
                return None
        return await chosen(question, self.labels, soft=self.soft, first=first, second=second, rationale=thought)

    def _preference(
        self, record: Candidates | Preference, pair: tuple[str, str], shares: tuple[float, float], principle: str
    ) -> Preference | None:
        share = min(max(fmean(shares), self.clamp), 1.0 - self.clamp)
        if math.isclose(share, 0.5, abs_tol=1e-9):
            return None
        better, worse = pair if share > 0.5 else pair[::-1]
        sides = [one if share > 0.5 else 1.0 - one for one in shares]
        said = ["chosen" if one > 0.5 else "rejected" if one < 0.5 else "tie" for one in sides]
        return Preference(
            parents=(record.id,),
            prompt=record.prompt,
            chosen=better,
            rejected=worse,
            score_chosen=max(share, 1.0 - share),
            score_rejected=min(share, 1.0 - share),
            meta={**record.meta, "principle": principle, "verdicts": said},
        )


@dataclass(frozen=True)
class Classify:
    """The class of a text, with the judge's probability of each class as a soft label.

    The classes are listed under letters, in drawn orders over which their probabilities are averaged. A document's or a
    labelled record's text is classified, or an instruction's last user turn.

    Args:
        classes: their names, and what each of them means.
        question: what is asked of the text.
        soft: read the probabilities of the letters' tokens, which takes a server that gives `logprobs`. Otherwise the
            choice is a typed reply, and the class is the one most often chosen.
        repeats: orders in which the classes are listed; as many as there are classes put each in every place once.

    Raises:
        ConfigError: arguments that make no sense; a server without log-probabilities.

    Reference: Wang et al. 2021, UDG, arXiv:2109.09193; Kwon et al. 2023, Reward Design, arXiv:2303.00001.
    """

    classes: Mapping[str, str]
    question: str = "Which class does the text belong to?"
    soft: bool = True
    repeats: int = 2
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("feedback/classify", str))
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "judge"

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Mapping) or not 2 <= len(self.classes) <= len(ascii_uppercase):
            raise ConfigError(
                f"Classify(classes={self.classes!r}): expected 2 to 26 names with what each of them means"
            )
        if self.repeats < 1:
            raise ConfigError(f"Classify(repeats={self.repeats}): at least one order is needed")

    def check(self, record: Document | Labelled | Instruction) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, *SHOWN, "question", "options", "labels", "soft", "text", "text_pair")

    async def __call__(self, record: Document | Labelled | Instruction, ask: Ask) -> Sequence[Labelled]:
        text = record.instruction if isinstance(record, Instruction) else record.text
        pair = record.text_pair if isinstance(record, Labelled) else None
        fields = {**shown(record), "question": self.question, "text": text, "text_pair": pair}
        sampling = with_logprobs(self.sampling) if self.soft else self.sampling
        asking = Question(ask, record, self.prompt, sampling, self.policy, self.role, fields)
        drawn = list(orders(Random(ask.rng.getrandbits(64)), len(self.classes), self.repeats))
        heard = await together(self._shares(asking, order) for order in drawn)
        told = [shares for shares in heard if shares is not None]
        if not told:
            raise RecordError(f"the judge chose no class in any of {len(drawn)} orders", reason="judge abstained")
        mean = {name: fmean(shares[name] for shares in told) for name in self.classes}
        best, next_best, *_ = sorted(mean.values(), reverse=True)
        if math.isclose(best, next_best, abs_tol=1e-9):
            raise RecordError(f"the judge's choices come out even: {mean}", reason="tie")
        label = max(mean, key=lambda name: mean[name])
        meta = record.carried() if isinstance(record, Instruction) else record.meta
        soft = mean if self.soft else {}
        return [Labelled(parents=(record.id,), text=text, text_pair=pair, label=label, soft_label=soft, meta=meta)]

    async def _shares(self, question: Question, order: tuple[int, ...]) -> dict[str, float] | None:
        names = [list(self.classes)[place] for place in order]
        letters = tuple(ascii_uppercase[: len(names)])
        options: list[dict[str, Any]] = [
            {"label": letter, "name": name, "about": self.classes[name]}
            for letter, name in zip(letters, names, strict=True)
        ]
        shares = await chosen(question, letters, soft=self.soft, options=options)
        return None if shares is None else {name: shares[letter] for letter, name in zip(letters, names, strict=True)}

"""Label probabilities: the strategy that reads off a model how sure it is of each of some labels.

Invariant: the probabilities of a record's labels are above or equal to 0 and together 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import together
from synthkd.strategies.scores import with_entry

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class LabelProbability:
    """How probable each of some labels is as the beginning of a model's reply; together they are 1.

    A list of all `labels` with their probabilities becomes an entry of `meta`, `{"Yes": 0.9, "No": 0.1}`. Either each
    label is scored as a text (a longer one is then less probable), or, where a server does not score texts, one token
    is drawn and labels are looked for among its `top` likeliest: as whole tokens, or as what one label alone begins
    with; letter case and space do not count. A record for which none is found there is rejected ("no label").

    Args:
        prompt: the template that asks for the label.
        labels: at least two, that differ in more than letter case.
        top: None to score texts (`ask.score`), or how many of the likeliest tokens to look at: at OpenAI up to 20.
        role: whose model.
        name: the entry of `meta`.
        sampling: for the one token.

    Reference: Bai et al. 2022, Constitutional AI, arXiv:2212.08073; Lee et al. 2023, RLAIF, arXiv:2309.00267.
    """

    prompt: Prompt[str]
    labels: Sequence[str] = ("Yes", "No")
    top: int | None = None
    role: str = "judge"
    name: str = "probabilities"
    sampling: Sampling = Sampling(temperature=0.0)

    def __post_init__(self) -> None:
        distinct = {_folded(label) for label in self.labels}
        if len(distinct) < 2 or len(distinct) < len(self.labels) or "" in distinct:
            raise ConfigError(f"LabelProbability(labels={self.labels!r}): expected at least two different ones")
        if self.top is not None and self.top < 1:
            raise ConfigError(f"LabelProbability(top={self.top!r}): expected at least 1 token to look at, or None")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        found = await (self._scored(record, ask) if self.top is None else self._drawn(record, ask))
        most = max(found.values())
        if most == -math.inf:
            raise RecordError(
                f"none of {list(self.labels)} is among the {self.top} likeliest tokens", reason="no label"
            )
        shares = {label: math.exp(value - most) for label, value in found.items()}
        whole = sum(shares.values())
        return [with_entry(record, self.name, {label: share / whole for label, share in shares.items()})]

    async def _scored(self, record: Record, ask: Ask) -> dict[str, float]:
        messages = self.prompt.fill(record).messages
        scores = await together(ask.score(messages, label, self.role) for label in self.labels)
        return {label: sum(values) for label, values in zip(self.labels, scores, strict=True)}

    async def _drawn(self, record: Record, ask: Ask) -> dict[str, float]:
        sampling = replace(self.sampling, max_tokens=1, logprobs=self.top)
        request = self.prompt.fill(record, sampling=sampling, policy=Policy(truncated="keep", empty="keep"))
        completion = (await ask.reply(request, self.role)).completion
        told = completion.logprobs
        if not told and not completion.text.strip():  # a turn that ended at once, which may be one reply in a thousand
            raise RecordError("the model ended its reply before the first token", reason="no label")
        if not told or not told[0].get("top_logprobs"):
            raise ConfigError(
                f"the teacher of the role {self.role!r} tells no log-probabilities; use a server that does, or "
                "top=None with one that scores texts"
            )
        mass = dict.fromkeys(self.labels, 0.0)
        for token in told[0]["top_logprobs"]:
            if (label := self._meant(token["token"])) is not None:
                mass[label] += math.exp(token["logprob"])
        return {label: math.log(share) if share > 0 else -math.inf for label, share in mass.items()}

    def _meant(self, token: str) -> str | None:
        """The label that a token is, or that alone begins with it."""
        folded = _folded(token)
        begun = [label for label in self.labels if folded and _folded(label).startswith(folded)]
        return next((label for label in begun if _folded(label) == folded), begun[0] if len(begun) == 1 else None)


def _folded(text: str) -> str:
    return text.strip().casefold()

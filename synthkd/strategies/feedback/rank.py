"""Ranking by single scores: the only place that makes a pair of the best and the worst of several candidates.

Invariant: equal scores never become a pair, and a verdict that cannot be read takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import EmptyReply, ParseError, RecordError, Refused, Truncated
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Preference
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import together


class Rating(BaseModel):
    """The typed verdict of a judge on one answer."""

    reason: str = Field(description="What is right or wrong with the answer.")
    score: int = Field(ge=1, le=5, description="From 1 (wrong) to 5 (correct and complete).")


@dataclass(frozen=True)
class Rank:
    """The best and the worst of several candidates, by a judge's score for each one of them.

    A verdict that cannot be read abstains: its candidate takes no part. Equal scores never become a pair.

    Args:
        margin: least difference of scores (1 to 5) between chosen and rejected.

    Reference: Cui et al. 2023, UltraFeedback, arXiv:2310.01377; Zheng et al. 2023, LLM-as-a-Judge, arXiv:2306.05685.
    """

    prompt: Prompt[Rating] = field(default_factory=lambda: Prompt("feedback/rate", Rating))
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "judge"
    margin: int = 1

    def check(self, record: Candidates) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "answer")

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Preference]:
        distinct = list(dict.fromkeys(record.completions))
        if len(distinct) < 2:
            raise RecordError(f"all {len(record.completions)} candidates are the same text", reason="tie")
        verdicts = await together(self._score(record, answer, ask) for answer in distinct)
        scored = [(score, answer) for score, answer in zip(verdicts, distinct, strict=True) if score is not None]
        if len(scored) < 2:
            raise RecordError(
                f"the judge gave a readable verdict on {len(scored)} of {len(distinct)} candidates; a pair needs two",
                reason="judge abstained",
            )
        best, worst = max(scored, key=lambda pair: pair[0]), min(scored, key=lambda pair: pair[0])
        if best[0] - worst[0] < max(self.margin, 1):
            raise RecordError(f"the judge's scores differ by {best[0] - worst[0]}", reason="tie")
        return [
            Preference(
                parents=(record.id,),
                prompt=record.prompt,
                chosen=best[1],
                rejected=worst[1],
                score_chosen=float(best[0]),
                score_rejected=float(worst[0]),
                meta=record.meta,
            )
        ]

    async def _score(self, record: Candidates, answer: str, ask: Ask) -> int | None:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, answer=answer)
        try:
            return (await ask(request, self.role)).score
        except (ParseError, Refused, Truncated, EmptyReply) as error:
            ask.dropped[f"verdict {error.reason}"] += 1
            return None

"""Samples: several answers to one instruction, and the one on which they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Instruction
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import together
from synthkd.strategies.labeling.making import demonstration
from synthkd.strategies.turns import asked
from synthkd.verify.answers import final_answer, value


@dataclass(frozen=True)
class Sample:
    """Several answers to each instruction, drawn independently, from one role or from several.

    Where several roles are asked, `meta["roles"]` says for each completion whose it is.

    Args:
        n: draws from each role.
    """

    n: int = 4
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("labeling/answer", str))
    sampling: Sampling = Sampling(temperature=0.8)
    policy: Policy = Policy()
    roles: tuple[str, ...] = ("teacher",)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"Sample(n={self.n}): at least one draw is needed")

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Candidates]:
        request = asked(self.prompt, record, self.sampling, self.policy)
        drawn = await together(ask.many(request, self.n, role) for role in self.roles)
        replies = [reply for of_role in drawn for reply in of_role]
        thoughts = tuple(reply.reasoning for reply in replies)
        meta = record.carried()
        if len(self.roles) > 1:
            meta["roles"] = [role for role, of_role in zip(self.roles, drawn, strict=True) for _ in of_role]
        return [
            Candidates(
                parents=(record.id,),
                prompt=record.prompt,
                completions=tuple(reply.value for reply in replies),
                reasonings=thoughts if any(thoughts) else (),
                meta=meta,
            )
        ]


@dataclass(frozen=True)
class SelfConsistency:
    """The answer on which most candidates agree, with the share of votes as its weight; asks no teacher.

    Votes are counted by value: `7`, `7.0` and `$7` are one answer, and so are `1,000` and `1000`, or `Paris` and
    `paris` (see `verify.exact`). Of the candidates that gave the winning answer, the first one is kept.

    Args:
        answer_of: the final answer in a completion, or None where there is none.
        least: share of all candidates, 0 to 1, that must agree; fewer reject the record.

    Reference: Wang et al. 2022, Self-Consistency, arXiv:2203.11171.
    """

    answer_of: Callable[[str], str | None] = final_answer
    least: float = 0.0

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Demonstration]:
        answers = [self.answer_of(completion) for completion in record.completions]
        values = [None if answer is None else value(answer) for answer in answers]
        votes = Counter(one for one in values if one is not None)
        if not votes:
            raise RecordError(f"none of {len(answers)} candidates holds a final answer", reason="no final answer")
        (winner, count), *others = votes.most_common()
        chosen = values.index(winner)
        if others and others[0][1] == count:
            rival = answers[values.index(others[0][0])]
            raise RecordError(f"{answers[chosen]!r} and {rival!r} have {count} votes each", reason="no majority")
        share = count / len(answers)
        if share < self.least:
            said = f"{answers[chosen]!r} has {share:.0%} of the votes, wanted {self.least:.0%}"
            raise RecordError(said, reason="no majority")
        reasoning = record.reasonings[chosen] if record.reasonings else None
        return [demonstration(record, record.completions[chosen], reasoning, weight=share)]

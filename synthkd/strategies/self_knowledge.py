"""Self-knowledge: strategies that learn something of the student's own samples, such as how hard a question is for it.

Invariant: the student is a role like any other, so its draws are journaled, counted and replayed like a teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, EmptyReply, ParseError, RecordError, Refused, Truncated
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Prompted, Ranking
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import called, child, together
from synthkd.strategies.labeling.verified import Gold, Verify
from synthkd.strategies.turns import asked
from synthkd.verify.answers import exact, final_answer

In = TypeVar("In", bound=Prompted)

_UNUSABLE = (ParseError, Refused, Truncated, EmptyReply)


@dataclass(frozen=True)
class Difficulty(Generic[In]):
    """How often a student is right: the same record, with `pass_rate` (0 to 1) in its `meta`.

    With `than`, another role answers as often: `meta` then has `<role>_pass_rate` and `gap`, how much better that role
    is. A draw that cannot be read is a wrong one. `filters.score("pass_rate", above=0.1, below=0.9)` keeps what can be
    learned from.

    Args:
        n: draws of each role.
        gold: the record's field, or the entry of its `meta`, that holds the known answer.
        than: a role to compare with, such as `teacher`.
        by: from a found and the known answer to whether they are the same: `exact`, `matches`, or another.
        find: from a completion to its answer.
        verify: in their place, from a whole completion and what `gold` holds to whether it is right; may be async.

    Reference: Hugging Face 2025, Open-R1; Jiang et al. 2023, Lion, arXiv:2305.12870.
    """

    n: int = 8
    gold: str = "answer"
    than: str | None = None
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("labeling/answer", str))
    sampling: Sampling = Sampling(temperature=0.8)
    policy: Policy = Policy()
    role: str = "student"
    by: Callable[[str, str], bool] = exact
    find: Callable[[str], str | None] = final_answer
    verify: Verify | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"Difficulty(n={self.n}): at least one draw is needed")

    def check(self, record: In) -> None:
        """Refuse a template that wants what the record does not have, and a record without a known answer."""
        self.prompt.check(record)
        Gold(self.gold).check(record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[In]:
        gold = Gold(self.gold, self.by, self.find, self.verify)
        known = gold.known(record)
        roles = [self.role] if self.than is None else [self.role, self.than]
        rates = await together(self._rate(record, gold, known, role, ask) for role in roles)
        found: dict[str, float] = {"pass_rate": rates[0]}
        if self.than is not None:
            found |= {f"{self.than}_pass_rate": rates[1], "gap": rates[1] - rates[0]}
        return [child(record.model_copy(update={"parents": ()}), record, **found)]

    async def _rate(self, record: In, gold: Gold, known: JsonValue, role: str, ask: Ask) -> float:
        request = asked(self.prompt, record, self.sampling, self.policy)
        try:
            replies = await ask.many(request, self.n, role)
        except _UNUSABLE as error:
            ask.dropped[error.reason] += self.n
            return 0.0
        right = [await gold.agrees(reply.value, known, ask) for reply in replies]
        return sum(map(bool, right)) / self.n


@dataclass(frozen=True)
class Rewarded:
    """Candidates ranked by a reward function; asks nobody. Equal texts count once.

    Args:
        reward: from the candidates and one of their completions to its reward: a reward model, a length, a test. `None`
            or no number abstains, and that completion takes no part. What an async one gives is kept in the journal.
        least: how many completions must be left; fewer reject the record ("too few rewards").

    Reference: Gulcehre et al. 2023, ReST, arXiv:2308.08998.
    """

    reward: Callable[[Candidates, str], float | None] | Callable[[Candidates, str], Awaitable[float | None]]
    least: int = 2

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Ranking]:
        texts = list(dict.fromkeys(record.completions))
        rewards = [await self._of(record, text, ask) for text in texts]
        return [_ranking(record, texts, rewards, self.least)]

    async def _of(self, record: Candidates, text: str, ask: Ask) -> float | None:
        known = {"record": record.id, "completion": text}
        found: float | None = await called(ask, "reward", self.reward, (record, text), known, _number)
        return found


class AdditiveScore(BaseModel):
    """The typed verdict of a student on an answer of its own."""

    justification: str = Field(description="Which of the criteria hold, and why.")
    score: int = Field(ge=0, le=5, description="The sum of the points.")


@dataclass(frozen=True)
class SelfReward:
    """Candidates ranked by the one who wrote them: the mean of several scores from 0 to 5 for each.

    A verdict that cannot be read abstains; a completion without any takes no part, and two must be left ("too few
    rewards"). Equal texts are judged once.

    Args:
        repeats: verdicts on each completion.

    Reference: Yuan et al. 2024, Self-Rewarding Language Models, arXiv:2401.10020.
    """

    repeats: int = 3
    prompt: Prompt[AdditiveScore] = field(default_factory=lambda: Prompt("self_knowledge/reward", AdditiveScore))
    sampling: Sampling = Sampling(temperature=0.7)
    policy: Policy = Policy()
    role: str = "student"

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"SelfReward(repeats={self.repeats}): at least one verdict is needed")

    def check(self, record: Candidates) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "answer")

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Ranking]:
        texts = list(dict.fromkeys(record.completions))
        rewards = await together(self._of(record, text, ask) for text in texts)
        return [_ranking(record, texts, rewards, least=2)]

    async def _of(self, record: Candidates, answer: str, ask: Ask) -> float | None:
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, answer=answer)
        try:
            verdicts = await ask.many(request, self.repeats, self.role)
        except _UNUSABLE as error:
            ask.dropped[f"verdict {error.reason}"] += self.repeats
            return None
        return sum(verdict.value.score for verdict in verdicts) / len(verdicts)


def _number(found: Any) -> float | None:
    return None if found is None or not math.isfinite(found) else float(found)


def _ranking(record: Candidates, texts: Sequence[str], rewards: Sequence[float | None], least: int) -> Ranking:
    ranked = [(reward, text) for reward, text in zip(rewards, texts, strict=True) if reward is not None]
    if len(ranked) < max(least, 1):
        raise RecordError(f"{len(ranked)} of {len(texts)} completions have a reward", reason="too few rewards")
    ranked.sort(key=lambda pair: -pair[0])
    return Ranking(
        parents=(record.id,),
        prompt=record.prompt,
        completions=tuple(text for _, text in ranked),
        scores=tuple(reward for reward, _ in ranked),
        meta=record.carried(),
    )

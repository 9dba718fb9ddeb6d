"""Contrast: the only place that makes good and bad answers on purpose, so that no judge has to tell them apart.

Invariant: the student's prompt holds nothing of what the teacher was told to be like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Instruction, Preference
from synthkd.request import Policy, Sampling
from synthkd.strategies.feedback.question import SHOWN, shown


@dataclass(frozen=True)
class Contrast:
    """A preference by construction: one answer asked for in a good manner, or of a better model, and one in a bad one.

    Args:
        manners: pairs of a good and a bad manner, of which one is drawn for each record; either may be empty.
        roles: who writes the good answer, and who the bad one: a larger and a smaller model, say.
        prompt: takes `manner` beside what the record has.

    Raises:
        ConfigError: nothing tells the two sides apart.

    Reference: Yang et al. 2023, RLCD, arXiv:2307.12950; Kim et al. 2023, ALMoST, arXiv:2305.13735.
    """

    manners: tuple[tuple[str, str], ...] = (("", ""),)
    roles: tuple[str, str] = ("teacher", "teacher")
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("feedback/contrast", str))
    sampling: Sampling = Sampling(temperature=1.0)
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        if len(self.roles) != 2:
            raise ConfigError(f"Contrast(roles={self.roles!r}): expected who is to be chosen and who rejected")
        if not self.manners or any(isinstance(pair, str) or len(pair) != 2 for pair in self.manners):
            raise ConfigError(
                f"Contrast(manners={self.manners!r}): expected pairs of texts, (('Be kind.', 'Be rude.'),)"
            )
        if self.roles[0] == self.roles[1] and any(good.strip() == bad.strip() for good, bad in self.manners):
            raise ConfigError(
                "Contrast: nothing tells the good answer from the bad one; give manners=(('Be kind.', 'Be rude.'),) "
                "or roles=('large', 'small')"
            )

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, *SHOWN, "manner")

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Preference]:
        manners = ask.rng.choice(self.manners)
        fields = shown(record)
        requests = [
            self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **fields, manner=manner)
            for manner in manners
        ]
        good, bad = await asyncio.gather(*(ask(one, role) for one, role in zip(requests, self.roles, strict=True)))
        if good == bad:
            raise RecordError("both manners gave the same text", reason="tie")
        meta = {**record.carried(), "manners": list(manners)}
        return [Preference(parents=(record.id,), prompt=record.prompt, chosen=good, rejected=bad, meta=meta)]

"""Evolving: the only place where instructions are rewritten in rounds, by operators drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from synthkd.ask import Ask
from synthkd.errors import ConfigError, EmptyReply, ParseError, RecordError, Refused, Truncated
from synthkd.prompt import Prompt
from synthkd.record import Instruction
from synthkd.request import Policy, Sampling
from synthkd.strategies.expansion.elimination import Rule, wizardlm
from synthkd.strategies.expansion.rewording import reworded, wording
from synthkd.strategies.listing import at_least_one


def _operators(*names: str) -> MappingProxyType[str, str]:
    return MappingProxyType({name.replace("_", " "): f"expansion/evolve/{name}" for name in names})


IN_DEPTH = _operators("constrain", "deepen", "concretise", "reason", "complicate")
"""Harder: WizardLM's, Xu et al. 2023, arXiv:2304.12244."""
IN_BREADTH = _operators("broaden")
"""Rarer: WizardLM's."""
CODE = _operators("code_constrain", "code_rarer", "code_reason", "code_mislead", "code_complexity")
"""Harder programming problems: WizardCoder's, Luo et al. 2023, arXiv:2306.08568."""
MATHS_UP = _operators("maths_constrain", "maths_concretise", "maths_reason")
"""Harder mathematical problems: WizardMath's, Luo et al. 2023, arXiv:2308.09583."""
MATHS_DOWN = _operators("maths_easier", "maths_other")
"""Easier ones."""
HARD_TWIN = _operators("hard_twin")
"""Another of the same kind, for what the student found hard: Lion's, Jiang et al. 2023, arXiv:2305.12870."""
EASY_TWIN = _operators("easy_twin")
"""Another of the same field but rarer, for what it found easy: Lion's."""


@dataclass(frozen=True)
class Evolve:
    """Rewrites an instruction in rounds, each by an operator drawn at random, and throws away what failed.

    What is thrown away leaves the earlier form to the next round, which takes an operator that has not failed on it,
    for the same question would get the same answer. When all have failed, the evolution ends. Each form has `operator`
    and `round` in its `meta` and the form before it among its parents. What failed is counted among the dropped.

    Args:
        operators: name of each operator, and its prompt: a built-in's name or the path of a file. The reply is
            the new text. Sets are joined with `|`, which is also how one's own are added.
        rounds: how many times to rewrite.
        keep: the forms of all rounds, or of the last one that succeeded.
        eliminate: rules, asked in this order; by default WizardLM's: it speaks of the rewriting, a judge finds it equal
            to the earlier form, or the teacher does not answer it. The latter two make a call each.
        forget: entries of `meta` and fields that do not hold for another text.

    Reference: Xu et al. 2023, WizardLM (Evol-Instruct), arXiv:2304.12244.
    """

    operators: Mapping[str, str | Path] = field(default_factory=lambda: IN_DEPTH | IN_BREADTH)
    rounds: int = 4
    keep: Literal["all", "last"] = "all"
    eliminate: Sequence[Rule] = field(default_factory=wizardlm)
    forget: tuple[str, ...] = ("gold",)
    sampling: Sampling = Sampling(temperature=1.0)
    policy: Policy = Policy()
    role: str = "teacher"
    _prompts: Mapping[str, Prompt[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        at_least_one(self, "rounds")
        if self.keep not in ("all", "last"):
            raise ConfigError(f"Evolve(keep={self.keep!r}): expected 'all' or 'last'")
        if not self.operators:
            raise ConfigError("Evolve(operators={}): expected at least one, such as IN_DEPTH")
        object.__setattr__(self, "_prompts", {name: Prompt(file, str) for name, file in self.operators.items()})

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what the record does not have."""
        for prompt in self._prompts.values():
            prompt.check(record)
        for rule in self.eliminate:
            if (check := getattr(rule, "check", None)) is not None:
                check(record)

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Instruction]:
        wording(record)
        forms = [record]
        left = list(self._prompts)
        failures = []
        for number in range(1, self.rounds + 1):
            if not left:
                break
            name = ask.rng.choice(left)
            found = await self._rewritten(record, forms[-1], name, number, ask)
            if isinstance(found, str):
                ask.dropped[f"evolution {found}"] += 1
                failures.append(f"{name}: {found}")
                left.remove(name)
            else:
                forms.append(found)
                left = list(self._prompts)
        if len(forms) == 1:
            raise RecordError(f"no operator gave a form that holds ({'; '.join(failures)})", reason="never evolved")
        if self.keep == "last":
            return [forms[-1].model_copy(update={"parents": (record.id,)})]
        return forms[1:]

    async def _rewritten(
        self, record: Instruction, before: Instruction, name: str, number: int, ask: Ask
    ) -> Instruction | str:
        """The next form, or why there is none."""
        more = {"instruction": before.instruction}
        request = self._prompts[name].fill(record, sampling=self.sampling, policy=self.policy, **more)
        try:
            text = (await ask(request, self.role)).strip()
        except (ParseError, Refused, Truncated, EmptyReply) as error:
            return error.reason
        carried = {key: value for key, value in record.carried().items() if key not in self.forget}
        after = Instruction(
            parents=tuple(dict.fromkeys((record.id, before.id))),
            prompt=reworded(record.prompt, text),
            meta={**carried, "operator": name, "round": number},
        )
        for rule in self.eliminate:
            if (reason := await rule(before, after, ask)) is not None:
                return reason
        return after

"""Context swap: the only place where a teacher is shown what the training prompt omits.

Invariant: the record keeps both sides. Its `prompt` is what the student will see, and `privileged_context` what was put
beside it for the teacher (the field of a `Demonstration`, an entry of `meta` in other kinds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, TypeVar, cast, get_args

from synthkd.ask import Ask, Strategy
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Prompted, Record
from synthkd.request import Request
from synthkd.strategies.branching import Branch, check
from synthkd.strategies.labeling.making import CONTEXT
from synthkd.strategies.turns import Place, with_text

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)

Texts = str | Sequence[str]


@dataclass(frozen=True)
class Swap(Generic[In, Out]):
    """A strategy whose teacher sees more than the student will: a hint, principles, a system message, an affix, a gold
    answer, a target score.

    It holds for all that the strategy asks. Swaps nest: `Swap(Swap(Answer(), SYSTEMS, at="system"), of="hint")`.

    Args:
        strategy: who asks.
        pool: what is shown: a text; texts of which `k` are drawn; or a function from the record to either, where an
            empty one shows nothing.
        of: in place of a pool, the field or entry of `meta` that holds what is shown.
        prompt: a template that words it; its variable `shown` is the list of texts, its others the record's. Built in
            are `labeling/hint`, `labeling/gold`, `labeling/principles`, `labeling/target` and `labeling/knowledge`.
        at: where it stands: behind the system message, or before or behind the last user turn.
        k: how many texts are drawn, without replacement, by `ask.rng`; all of a smaller pool.
        weights: how likely each text of a fixed pool is to be drawn.
        erase: leave it out of the student's prompt. With False the student sees it too, as in Orca.
        student_system: a system message that the student sees in its place, as in Orca 2.

    Reference: Askell et al. 2021, context distillation, arXiv:2112.00861; Sun et al. 2023, Self-Align,
        arXiv:2305.03047; Mukherjee et al. 2023, Orca, arXiv:2306.02707; Mitra et al. 2023, Orca 2, arXiv:2311.11045.
    """

    strategy: Strategy[In, Out]
    pool: Texts | Callable[[In], Texts | None] | None = None
    of: str | None = None
    prompt: Prompt[str] | None = None
    at: Place = "after"
    k: int = 1
    weights: Sequence[float] | None = None
    erase: bool = True
    student_system: str | None = None

    def __post_init__(self) -> None:
        if self.pool is not None and self.of is not None:
            raise ConfigError(f"Swap(of={self.of!r}) has a pool as well: give the one or the other")
        if self.pool is None and self.of is None and self.prompt is None:
            raise ConfigError("Swap() has nothing to show: give a pool, of='a field', or a prompt")
        if self.at not in get_args(Place):
            raise ConfigError(f"Swap(at={self.at!r}): expected one of {', '.join(map(repr, get_args(Place)))}")
        if self.k < 1:
            raise ConfigError(f"Swap(k={self.k}): at least one text is needed")
        if self.student_system is not None and not self.erase:
            raise ConfigError(
                "Swap(erase=False, student_system=...): the student sees either what was shown or another"
            )
        if isinstance(self.pool, Sequence) and not self.pool:
            raise ConfigError("Swap(pool=...) is empty: give at least one text")
        _check_weights(self.weights, self.pool)

    def check(self, record: In) -> None:
        """Refuse a template or a field that the record does not have."""
        if self.of is not None and self.of not in record.variables():
            known = ", ".join(record.variables())
            raise ConfigError(f"Swap(of={self.of!r}): the record has no such field and no such entry in meta: {known}")
        if self.prompt is not None:
            self.prompt.check(record, *(() if self.pool is None and self.of is None else ("shown",)))
        check(self.strategy, record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Out]:
        text = self._text(record, ask.rng)
        if not text:
            return await self.strategy(record, ask)

        def shown(request: Request[Any]) -> Request[Any]:
            return replace(request, messages=with_text(request.messages, text, self.at))

        outputs = await self.strategy(record, Branch(ask, change=shown))
        return [self._kept(record, output, text) for output in outputs or ()]

    def _text(self, record: In, rng: Random) -> str:
        """What the teacher is shown for this record; empty for nothing."""
        more: dict[str, Any] = {}
        if self.pool is not None or self.of is not None:
            texts = self._drawn(record, rng)
            if not texts:
                return ""
            more["shown"] = texts
        if self.prompt is None:
            return "\n\n".join(more["shown"]).strip()
        return "\n\n".join(message.text for message in self.prompt.fill(record, **more).messages)

    def _drawn(self, record: In, rng: Random) -> list[str]:
        if self.of is not None:
            found = record.variables().get(self.of)
            if found is None:
                raise RecordError(f"Swap(of={self.of!r}): the record holds no such thing", reason="no context")
            pool = [str(one) for one in found] if isinstance(found, list | tuple) else [str(found)]
        else:
            given = self.pool(record) if callable(self.pool) else self.pool
            pool = [given] if isinstance(given, str) else list(given or ())
        if (self.of is None and len(pool) > self.k) or self.weights:
            pool = drawn(rng, pool, self.k, self.weights)
        return [text for text in pool if text.strip()]

    def _kept(self, record: In, output: Out, text: str) -> Out:
        """An output with what was shown, and with the prompt that its student is to see."""
        update: dict[str, Any] = {}
        at, added = ("system", self.student_system) if self.erase else (self.at, text)
        if added and isinstance(output, Prompted) and isinstance(record, Prompted) and output.prompt == record.prompt:
            update["prompt"] = with_text(record.messages, added, cast(Place, at))
        if self.erase and isinstance(output, Demonstration):
            update[CONTEXT] = "\n\n".join(filter(None, (output.privileged_context, text)))
        elif self.erase:
            already = output.meta.get(CONTEXT)
            update["meta"] = {**output.meta, CONTEXT: f"{already}\n\n{text}" if already else text}
        return output.model_copy(update=update)


def drawn(rng: Random, pool: Sequence[str], k: int, weights: Sequence[float] | None = None) -> list[str]:
    """`k` texts of a pool without replacement, or all of a smaller one; of a weighted one, those with a weight."""
    if weights is None:
        return rng.sample(pool, min(k, len(pool)))
    chances = [(rng.random() ** (1 / weight), text) for text, weight in zip(pool, weights, strict=True) if weight]
    return [text for _, text in sorted(chances, key=lambda pair: -pair[0])[:k]]


def _check_weights(weights: Sequence[float] | None, pool: object) -> None:
    if weights is None:
        return
    if not isinstance(pool, Sequence) or isinstance(pool, str) or len(pool) != len(weights):
        raise ConfigError(f"Swap(weights=...): {len(weights)} weights; a pool of as many texts is needed beside them")
    if any(not 0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ConfigError(f"Swap(weights={list(weights)}): none may be below 0, and one must be above")

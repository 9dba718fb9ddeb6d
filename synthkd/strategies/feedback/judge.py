"""Judging: the only place where the verdicts on a record's texts become its scores.

Invariant: a text takes part only where every aspect was heard; what nobody could read is counted, and never a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from statistics import fmean
from typing import Any, Literal, TypeVar, cast

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Document, Instruction, Labelled, Ranking, Rated, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.branching import together
from synthkd.strategies.feedback.listwise import listwise
from synthkd.strategies.feedback.pairwise import pairwise
from synthkd.strategies.feedback.question import SHOWN, Question, Verdict, shown
from synthkd.strategies.feedback.scores import each, expected, joint

R = TypeVar("R", bound=Demonstration | Instruction | Rated | Document | Labelled)

_RUBRIC = "How well the text does what it is for: correct, complete, to the point and clear."
_OFFERED = (*SHOWN, "rubric", "low", "high")
_WAYS = {"each": "score", "joint": "joint", "pairwise": "compare", "listwise": "order"}


@lru_cache(maxsize=8)
def _builtin(name: str) -> Prompt[Any]:
    return Prompt(f"feedback/{name}", str)


@dataclass(frozen=True, kw_only=True)
class _Scoring:
    """What judging one text and judging several have in common."""

    rubric: str | None = None
    aspects: Mapping[str, str] = field(default_factory=dict)
    scale: tuple[int, int] = (1, 5)
    repeats: int = 1
    soft: bool = False
    prompt: Prompt[Any] | None = None
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "judge"

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not (len(self.scale) == 2 and self.scale[0] < self.scale[1]):
            raise ConfigError(f"{name}(scale={self.scale}): expected the least and the greatest score, such as (1, 5)")
        if not isinstance(self.aspects, Mapping) or (self.aspects and self.rubric is not None):
            raise ConfigError(f"{name}: expected either a rubric, or aspects={{name: rubric, ...}}")
        if self.repeats < 1:
            raise ConfigError(f"{name}(repeats={self.repeats}): at least one verdict is needed")
        if self.repeats > 1 and self.sampling.temperature == 0 and self._way in ("each", "pairwise"):
            raise ConfigError(
                f"{name}(repeats={self.repeats}) at temperature 0 asks for the same verdict again; "
                "pass sampling=Sampling(temperature=0.7)"
            )
        if self.soft and (self._way != "each" or self.repeats > 1 or not 0 <= self.scale[0] < self.scale[1] <= 9):
            raise ConfigError(
                f"{name}(soft=True) scores each text by one token: "
                "it takes how='each', repeats=1 and a scale within 0 to 9"
            )

    async def _opinions(self, record: Record, texts: Sequence[str | None], ask: Ask) -> list[dict[str, Any] | None]:
        """For each text its entries of `meta`, or `None` where an aspect was not heard."""
        rubrics = self.aspects or {"": self.rubric or record.variables().get("rubric") or _RUBRIC}
        questions = [self._question(record, rubric, ask) for rubric in rubrics.values()]
        by_aspect = await together(self._verdicts(question, texts) for question in questions)
        return [_opinion(list(rubrics), verdicts) for verdicts in zip(*by_aspect, strict=True)]

    def _question(self, record: Record, rubric: str, ask: Ask) -> Question:
        fields = {**shown(record), "rubric": rubric, "low": self.scale[0], "high": self.scale[1]}
        rng = Random(ask.rng.getrandbits(64))
        return Question(ask, record, self._asked, self.sampling, self.policy, self.role, fields, rng)

    async def _verdicts(self, question: Question, texts: Sequence[Any]) -> list[Verdict | None]:
        if self.soft:
            return await expected(question, texts, self.scale)
        return await each(question, texts, self.scale, self.repeats)

    @property
    def _way(self) -> str:
        return "each"

    @property
    def _asked(self) -> Prompt[Any]:
        return self.prompt or _builtin("digit" if self.soft else _WAYS[self._way])


@dataclass(frozen=True, kw_only=True)
class Score(_Scoring):
    """A record with a judge's score by a rubric in its `meta`: of a demonstration, an instruction, a document, ...

    `filters.score("score", ...)` finds it there. Beside it stand `scores` (by aspect) and `feedback` (the judge's
    reasons). A record without a verdict that can be read is rejected: "judge abstained".

    Args:
        rubric: what is judged and what the scores mean; by default the record's own `rubric` (a field or an entry of
            `meta`), or else how well the text does what it is for. A record's `reference` is shown where it has one.
        aspects: names and a rubric for each, one call for each of them; the score is their mean.
        scale: least and greatest score, whole numbers.
        repeats: verdicts whose mean is taken, at a temperature above 0.
        soft: the mean of the scale under the probabilities of its digits, from one token; a scale within 0 to 9, and a
            server that gives `logprobs`.
        prompt: a template of your own; the type of its reply is the judge's. `Prompt("feedback/rate", Rating)` asks
            what `Rank` asks.

    Raises:
        ConfigError: arguments that do not fit together; a server without log-probabilities where `soft`.

    Reference: Kim et al. 2023, Prometheus, arXiv:2310.08491; Lee et al. 2023, RLAIF, arXiv:2309.00267.
    """

    def check(self, record: Demonstration | Instruction | Rated | Document | Labelled) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self._asked.check(record, *_OFFERED, "labels", "soft")

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        [opinion] = await self._opinions(record, [shown(record)["answer"]], ask)
        if opinion is None:
            raise RecordError("the judge gave no verdict that can be read", reason="judge abstained")
        update = {"parents": (record.id,), "meta": {**record.meta, **opinion}}
        return [cast(R, record.model_copy(update=update))]


@dataclass(frozen=True, kw_only=True)
class Judge(_Scoring):
    """The distinct candidates in a judge's order, with their scores: a `Ranking`.

    In its `meta` stand lists with an entry a completion, `scores` (by aspect), `feedback` (the judge's reasons) and
    `reasonings`, and of comparisons `agreement`: the share of pairs in which both orders said the same.

    A verdict that cannot be read abstains, and is counted in the ledger as dropped. With fewer than two texts scored
    the record is rejected: "judge abstained".

    Args:
        how: `each`: a call for each text. `joint`: one call for all k of them. `pairwise`: two calls for each of the
            k(k-1)/2 pairs, in both orders; the score is the share of the others that a text beats, a tie half a win.
            `listwise`: permutations over a sliding window; the score is the share of the others it stands before.
        window: how many texts a permutation orders at a time (`listwise`); they are shown in a drawn order.
        stride: how far the window moves from the back of the candidates towards the front (`listwise`).
        rubric: what is judged, as for `Score`.
        aspects: names and a rubric for each, all of it once for each of them; the score is their mean.
        scale: least and greatest score, whole numbers (`each`, `joint`).
        repeats: verdicts whose mean is taken. `joint` and `listwise` show the texts in another order each time: k
            repeats put every text in every place once, so `joint` with two repeats is a referee in both orders.
        soft: as for `Score` (`each`).
        prompt: a template of your own; the type of its reply is the judge's.

    Raises:
        ConfigError: arguments that do not fit together; a server without log-probabilities where `soft`.

    Reference: Cui et al. 2023, UltraFeedback, arXiv:2310.01377; Yuan et al. 2024, Self-Rewarding, arXiv:2401.10020;
        Zheng et al. 2023, LLM-as-a-Judge, arXiv:2306.05685; Sun et al. 2023, RankGPT, arXiv:2304.09542.
    """

    how: Literal["each", "joint", "pairwise", "listwise"] = "each"
    window: int = 20
    stride: int = 10

    def __post_init__(self) -> None:
        if self.how not in _WAYS:
            raise ConfigError(f"Judge(how={self.how!r}): expected {', '.join(_WAYS)}")
        if not 1 <= self.stride < self.window:
            raise ConfigError(
                f"Judge(window={self.window}, stride={self.stride}): expected 1 <= stride < window, such as 20 and 10"
            )
        super().__post_init__()

    def check(self, record: Candidates) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self._asked.check(record, *_OFFERED, "answers", "first", "second", "labels", "soft")

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Ranking]:
        texts = list(dict.fromkeys(record.completions))
        if len(texts) < 2 and self.how in ("pairwise", "listwise"):
            raise RecordError(f"all {len(record.completions)} candidates are the same text", reason="tie")
        opinions = await self._opinions(record, texts, ask)
        scored = [(text, one) for text, one in zip(texts, opinions, strict=True) if one is not None]
        if len(scored) < min(2, len(texts)):
            raise RecordError(
                f"the judge gave a readable verdict on {len(scored)} of {len(texts)} candidates",
                reason="judge abstained",
            )
        scored.sort(key=lambda pair: -pair[1]["score"])
        return [
            Ranking(
                parents=(record.id,),
                prompt=record.prompt,
                completions=tuple(text for text, _ in scored),
                scores=tuple(one["score"] for _, one in scored),
                meta=_in_order(record, scored),
            )
        ]

    @property
    def _way(self) -> str:
        return self.how

    async def _verdicts(self, question: Question, texts: Sequence[Any]) -> list[Verdict | None]:
        match self.how:
            case "joint":
                return await joint(question, texts, self.scale, self.repeats)
            case "pairwise":
                return await pairwise(question, texts, self.repeats)
            case "listwise":
                return await listwise(question, texts, self.repeats, self.window, self.stride)
        return await super()._verdicts(question, texts)


def _opinion(aspects: Sequence[str], verdicts: Sequence[Verdict | None]) -> dict[str, JsonValue] | None:
    heard = [verdict for verdict in verdicts if verdict is not None]
    if len(heard) < len(verdicts):
        return None
    found: dict[str, JsonValue] = {"score": fmean(verdict.score for verdict in heard)}
    if aspects != [""]:
        found["scores"] = {aspect: verdict.score for aspect, verdict in zip(aspects, heard, strict=True)}
    if any(verdict.reason for verdict in heard):
        pairs = zip(aspects, heard, strict=True)
        found["feedback"] = "\n\n".join(f"{aspect}: {one.reason}" if aspect else one.reason for aspect, one in pairs)
    agreements = [verdict.agreement for verdict in heard if verdict.agreement is not None]
    if agreements:
        found["agreement"] = fmean(agreements)
    return found


def _in_order(record: Candidates, scored: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, JsonValue]:
    """What travels with a ranking."""
    meta = dict(record.carried())
    for name in ("scores", "feedback"):
        if any(name in one for _, one in scored):
            meta[name] = [one.get(name) for _, one in scored]
    agreements = [one["agreement"] for _, one in scored if "agreement" in one]
    if agreements:
        meta["agreement"] = fmean(agreements)
    if record.reasonings:
        meta["reasonings"] = [record.reasonings[record.completions.index(text)] for text, _ in scored]
    return meta

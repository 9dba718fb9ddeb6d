"""Text for a label: the only place where a teacher writes what belongs to a given class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from synthkd.ask import Ask
from synthkd.prompt import Prompt
from synthkd.record import Labelled, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import Listed, at_least_one, distinct, drawn, offered

_OPTIONAL = ("description", "subject", "text")


@dataclass(frozen=True)
class ForLabel:
    """Texts of a class, from any record that offers a `label`, such as `pool(label=[...], subject=[...])` gives.

    It may offer more: a `description` of the class, a `subject` for the texts, `examples` to be like, or a `text`: then
    what is written is the `text_pair` beside it.

    Args:
        n: texts for each record.
        examples: texts without labels that show what such texts look like; `examples_k` are drawn for each call.

    Reference: Wang et al. 2021, Unsupervised Data Generation, arXiv:2109.09193; Gao et al. 2023, SunGen,
        arXiv:2205.12679; He et al. 2023, TDG, arXiv:2306.03415.
    """

    n: int = 10
    examples: Sequence[str] = ()
    examples_k: int = 32
    prompt: Prompt[Listed] = field(default_factory=lambda: Prompt("expansion/for_label", Listed))
    sampling: Sampling = Sampling(temperature=1.0)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has, and a record without a label."""
        self.prompt.check(record, "examples", "n", *_OPTIONAL)

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Labelled]:
        known = record.variables()
        examples = list(known.get("examples") or drawn(self.examples, self.examples_k, ask))
        more = {**offered(record, _OPTIONAL), "examples": examples, "n": self.n}
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **more)
        texts = distinct((await ask(request, self.role)).items, ask, n=self.n, known=examples)
        first, label = known.get("text"), str(known["label"])
        meta = {name: value for name, value in record.carried().items() if name not in ("label", "text", "examples")}
        return [
            Labelled(parents=(record.id,), text=first, text_pair=text, label=label, meta=meta)
            if first
            else Labelled(parents=(record.id,), text=text, label=label, meta=meta)
            for text in texts
        ]

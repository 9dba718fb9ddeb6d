"""Classifying: the only place that asks models for classes, entailment and rewards.

Invariant: each scorer gives one number for each thing that it is given, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synthkd.errors import ConfigError
from synthkd.message import Message, plain
from synthkd.record import Record
from synthkd.scoring.loading import Pipeline

Pair = tuple[str, str]
Answered = tuple[str | Sequence[Message], str]
"""A prompt and a completion."""


class Classifier(Pipeline):
    """How probable a class is for each text, under a model for sequence classification.

    `filters.score(Classifier(model, "educational", of="completion"), at_least=0.5, batch=256)` keeps what is of the
    class.

    Args:
        model: as for every scorer; see `LocalModel`.
        label: the class whose probability is given; may be left out for `labels` and `probabilities`.
        of: which text of a record: a field or an entry of `meta`.
        options: `device`, `dtype`, `batch_size`, `revision`.

    Raises:
        ConfigError: while scoring, the model cannot be loaded, or it does not know the label.
    """

    def __init__(self, model: str, label: str | None = None, *, of: str = "completion", **options: Any) -> None:
        super().__init__(model, **options)
        self.label = label
        self._of = of

    def __call__(self, items: Sequence[str | Record], /) -> list[float]:
        """The probability of the label for each text or record, 0 to 1."""
        if items and self.label not in (known := self._labels()):
            raise ConfigError(f"{self!r}: no class {self.label!r}; this model's are {', '.join(known)}")
        return [found[str(self.label)] for found in self.probabilities(items)]

    def labels(self, items: Sequence[str | Record]) -> list[str]:
        """The likeliest class of each."""
        return [max(found, key=found.__getitem__) for found in self.probabilities(items)]

    def probabilities(self, items: Sequence[str | Record]) -> list[dict[str, float]]:
        """The probability of each class for each, the likeliest first."""
        return self._scores([self._text(item) for item in items])

    def _text(self, item: str | Record) -> str:
        found = item.variables().get(self._of) if isinstance(item, Record) else item
        if not isinstance(found, str):
            raise ConfigError(
                f"{self!r} classifies the {self._of} of a record, and {type(item).__name__} has no such text"
            )
        return found


class NLI(Pipeline):
    """How probable it is that a text follows from another, under a model for natural language inference.

    It takes pairs of premise and hypothesis, which is what `filters.dedup.clusters(same=...)` gives.

    Args:
        model: as for every scorer; see `LocalModel`.
        entailment: the model's name for this class; by default the one that begins with "entail".
        options: `device`, `dtype`, `batch_size`, `revision`.

    Raises:
        ConfigError: while scoring, the model cannot be loaded, or it has no such class.

    Reference: Williams et al. 2018, MultiNLI, arXiv:1704.05426.
    """

    _function = "softmax"

    def __init__(self, model: str, *, entailment: str | None = None, **options: Any) -> None:
        super().__init__(model, **options)
        self._entailment = entailment

    def __call__(self, pairs: Sequence[Pair], /) -> list[float]:
        """The probability that the second text of each pair follows from the first, 0 to 1."""
        found = self.probabilities(pairs)
        return [one[self._label()] for one in found]

    def probabilities(self, pairs: Sequence[Pair]) -> list[dict[str, float]]:
        """The probability of each class of the model, such as contradiction, the likeliest first."""
        return self._scores([{"text": premise, "text_pair": hypothesis} for premise, hypothesis in pairs])

    def _label(self) -> str:
        known = self._labels()
        wanted = (self._entailment or "entail").casefold()
        for label in known:
            if label.casefold() == wanted or (self._entailment is None and label.casefold().startswith(wanted)):
                return label
        raise ConfigError(
            f"{self!r}: none of its classes {', '.join(known)} is named for entailment; say which: "
            "NLI(..., entailment=NAME)"
        )


class Reward(Pipeline):
    """How good a completion is for its prompt, under a reward model: a number without limits, more is better.

    It takes records with a completion, or pairs of a prompt and a completion. They are rendered by the tokenizer's chat
    template; a model without one reads the prompt's text and the completion as two texts.

    Raises:
        ConfigError: while scoring, the model cannot be loaded, or has more than one output.

    Reference: Stiennon et al. 2020, Learning to summarize from human feedback, arXiv:2009.01325.
    """

    _function = "none"

    def __call__(self, items: Sequence[Answered | Record], /) -> list[float]:
        """The reward of each."""
        if not items:
            return []
        pairs = [self._answered(item) for item in items]
        if len(known := self._labels()) != 1:
            raise ConfigError(
                f"{self!r} has {len(known)} outputs ({', '.join(known)}) and is no reward model, which has one; "
                "use a Classifier"
            )
        tokenizer = self._pipeline.tokenizer
        if tokenizer.chat_template is None:
            texts = [("\n".join(turn.text for turn in turns), completion) for turns, completion in pairs]
            found = self._scores([{"text": prompt, "text_pair": completion} for prompt, completion in texts])
        else:
            talks = [[*map(plain, turns), {"role": "assistant", "content": completion}] for turns, completion in pairs]
            rendered = [str(tokenizer.apply_chat_template(talk, tokenize=False)) for talk in talks]
            found = self._scores(rendered, add_special_tokens=False)
        return [value for one in found for value in one.values()]

    def _answered(self, item: Answered | Record) -> tuple[Sequence[Message], str]:
        if isinstance(item, Record):
            turns, completion = getattr(item, "messages", None), getattr(item, "completion", None)
            if turns is None or not isinstance(completion, str):
                raise ConfigError(
                    f"{self!r} judges a completion, and {type(item).__name__} has not one; give pairs of prompt and "
                    "completion"
                )
            return turns, completion
        prompt, completion = item
        return ((Message("user", prompt),) if isinstance(prompt, str) else prompt), completion

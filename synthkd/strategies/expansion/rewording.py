"""Rewording: the only place where the text of a record is replaced by another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Prompted, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import Listed, at_least_one, distinct

R = TypeVar("R", bound=Record)


def wording(record: Record) -> str:
    """The text that is reworded: the last user turn of a prompt, or the text of what has one.

    Raises:
        RecordError: there is none.
    """
    text = str(record.variables().get("instruction" if isinstance(record, Prompted) else "text") or "")
    if not text.strip():
        raise RecordError("the record has no text that could be reworded", reason="no text")
    return text


def reworded(prompt: str | tuple[Message, ...], text: str) -> str | tuple[Message, ...]:
    """A prompt with another text in its last user turn; its pictures stay."""
    if isinstance(prompt, str):
        return text
    place = max(number for number, message in enumerate(prompt) if message.role == "user")
    turn = prompt[place]
    changed = replace(turn, content=(*turn.images, text) if turn.images else text)
    return (*prompt[:place], changed, *prompt[place + 1 :])


@dataclass(frozen=True)
class Paraphrase:
    """The same record in other words, several times: the last user turn of a prompt, or a labelled or other text.

    All else stays as it is: label, completion, fields of a subclass.

    Args:
        n: paraphrases of each.

    Reference: Dai et al. 2023, AugGPT, arXiv:2302.13007.
    """

    n: int = 6
    prompt: Prompt[Listed] = field(default_factory=lambda: Prompt("expansion/paraphrase", Listed))
    sampling: Sampling = Sampling(temperature=1.0)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has, and a record without any text.

        Raises:
            ConfigError: this kind of record has neither prompt nor text.
        """
        if not {"prompt", "text"} & type(record).model_fields.keys():
            raise ConfigError(
                f"Paraphrase() was given a {type(record).__name__}; expected a record with prompt or text"
            )
        self.prompt.check(record, "text", "n")

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        text = wording(record)
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, text=text, n=self.n)
        others = distinct((await ask(request, self.role)).items, ask, n=self.n, known=[text])
        return [record.model_copy(update={"parents": (record.id,), **_changed(record, other)}) for other in others]


def _changed(record: Record, text: str) -> dict[str, object]:
    return {"prompt": reworded(record.prompt, text)} if isinstance(record, Prompted) else {"text": text}

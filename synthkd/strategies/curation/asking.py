"""Questions about documents: the only place where an answer must be proved by a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import RecordError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Document
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import at_least_one, folded

_GAP = re.compile(r"\.\.\.+|…|\[\.\.\.\]|\[…\]")
_ALIKE = str.maketrans("‘’‚“”„«»‐‑–—−", '\'\'\'"""""-----')


class Grounded(BaseModel):
    """A question and its answer, and what proves it."""

    question: str = Field(min_length=1, description="The question.")
    answer: str = Field(min_length=1, description="Its answer.")
    quote: str = Field(description="The part of the text that proves the answer, word for word.")


class Grounding(BaseModel):
    """The typed reply of `AskAbout`."""

    items: list[Grounded] = Field(min_length=1, description="The questions.")


@dataclass(frozen=True)
class AskAbout:
    """Questions about a document with answers that it proves: a quote that does not stand in it drops its question.

    A quote is found whatever its letter case, white space and typographic marks; with `...` in it, its parts must
    follow each other. `meta` has it as `quote`.

    Args:
        n: questions for each document.
        passage: the student is shown the document before the question. Else the question stands alone, and the document
            is the demonstration's `privileged_context`.

    Reference: Yehudai et al. 2024, Genie, arXiv:2401.14367.
    """

    n: int = 1
    passage: bool = True
    prompt: Prompt[Grounding] = field(default_factory=lambda: Prompt("curation/ask_about", Grounding))
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Document) -> None:
        """Refuse a template that wants what neither the record nor this strategy has."""
        self.prompt.check(record, "n")

    async def __call__(self, record: Document, ask: Ask) -> Sequence[Demonstration]:
        if not record.text.strip():
            raise RecordError("the document has no text", reason="no text")
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, n=self.n)
        text = _plain(record.text)
        proved: dict[str, Grounded] = {}
        lost = []
        for item in (await ask(request, self.role)).items:
            mark = folded(item.question)
            if not mark or mark in proved or len(proved) == self.n:
                ask.dropped[
                    "repeated entry" if mark in proved else "more than asked for" if mark else "blank entry"
                ] += 1
            elif _stands_in(text, item.quote):
                proved[mark] = item
            else:
                lost.append(item.quote)
                ask.dropped["not in the source"] += 1
        if not proved:
            said = f"no quote stands in the document; the first is {lost[0][:80]!r}" if lost else "no question is left"
            raise RecordError(said, reason="not in the source" if lost else "nothing new")
        return [
            Demonstration(
                parents=(record.id,),
                prompt=f"{record.text}\n\n{item.question}" if self.passage else item.question,
                completion=item.answer,
                privileged_context=None if self.passage else record.text,
                meta={**record.carried(), "quote": item.quote},
            )
            for item in proved.values()
        ]


def _plain(text: str) -> str:
    """A text without differences of letter case, white space, compatible characters and typographic marks."""
    return folded(unicodedata.normalize("NFKC", text.translate(_ALIKE)))


def _stands_in(text: str, quote: str) -> bool:
    """Whether the parts of a quote follow each other in a plain text."""
    parts = [part for part in (_plain(part).strip(" \"'") for part in _GAP.split(quote)) if part]
    place = 0
    for part in parts:
        if (place := text.find(part, place)) < 0:
            return False
        place += len(part)
    return bool(parts)

"""Tags in what a student reads and writes: the only place that puts them there and knows which spans carry no loss.

Invariant: a text that holds a tag by itself is never marked up with it, for nobody could tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.record import Demonstration, Masked


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a completion."""

    text: str
    open: str = ""
    """What stands before it, such as `<think>` or `[Relevant]`."""
    close: str = ""
    loss: bool = True
    """Whether the student learns to write it, its tags included."""


def tag(name: str, text: str, *, loss: bool = True) -> Span:
    """A text between `<name>` and `</name>`."""
    return Span(text, f"<{name}>", f"</{name}>", loss)


def thinking(record: Demonstration) -> list[str | Span]:
    """The reasoning between `<think>` tags, where there is any, and the completion; for `Markup`."""
    before = [Span(record.reasoning, "<think>\n", "\n</think>\n\n")] if record.reasoning else []
    return [*before, record.completion]


def composed(spans: Iterable[str | Span]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """One text of several, and where it carries no loss (characters from, up to).

    Raises:
        RecordError: one of the texts holds one of the tags ("tag in the text").
    """
    parts = [Span(span) if isinstance(span, str) else span for span in spans]
    tags = {mark.strip() for part in parts for mark in (part.open, part.close)} - {""}
    text, masked = "", []
    for part in parts:
        if found := next((mark for mark in tags if mark in part.text), None):
            raise RecordError(
                f"the text {part.text[:80]!r} holds the tag {found!r} by itself", reason="tag in the text"
            )
        begin = len(text)
        text += part.open + part.text + part.close
        if not part.loss and len(text) > begin:
            masked.append((begin, len(text)))
    return text, tuple(masked)


@dataclass(frozen=True)
class Markup:
    """Demonstrations with tags: in the completion, with spans that carry no loss, and before the instruction.

    The reasoning of a record is left out once its completion is composed anew: it is in the spans, or not wanted.

    Args:
        completion: the spans that make up the completion, from a record.
        condition: what is put before the last user turn, such as the quality of the answer that follows: a text, or
            a function of the record.

    Reference: Asai et al. 2023, Self-RAG, arXiv:2310.11511 (spans); Wang et al. 2023, OpenChat, arXiv:2309.11235
        (conditions).
    """

    completion: Callable[[Any], Iterable[str | Span]] | None = None
    condition: str | Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        if self.completion is None and self.condition is None:
            raise ConfigError("Markup() changes nothing: give completion= (spans) or condition= (a text), or both")

    async def __call__(self, record: Demonstration, ask: Ask) -> Sequence[Demonstration]:
        kept: dict[str, Any] = {
            "parents": (record.id,),
            "prompt": self._conditioned(record),
            "weight": record.weight,
            "privileged_context": record.privileged_context,
            "meta": record.carried(),
        }
        if self.completion is None:
            kept |= {"completion": record.completion, "reasoning": record.reasoning}
            return [Masked(masked=record.masked, **kept) if isinstance(record, Masked) else Demonstration(**kept)]
        text, masked = composed(self.completion(record))
        return [Masked(completion=text, masked=masked, **kept)]

    def _conditioned(self, record: Demonstration) -> str | tuple[Message, ...]:
        if self.condition is None:
            return record.prompt
        mark = self.condition if isinstance(self.condition, str) else self.condition(record)
        if mark.strip() and mark.strip() in record.instruction:
            raise RecordError(f"the instruction holds the condition {mark!r} by itself", reason="tag in the text")
        if isinstance(record.prompt, str):
            return mark + record.prompt
        last = max((k for k, turn in enumerate(record.prompt) if turn.role == "user"), default=None)
        if last is None:
            raise RecordError("the prompt has no user turn to put a condition before", reason="no user turn")
        turn = record.prompt[last]
        said = mark + turn.content if isinstance(turn.content, str) else (mark, *turn.content)
        return (*record.prompt[:last], replace(turn, content=said), *record.prompt[last + 1 :])

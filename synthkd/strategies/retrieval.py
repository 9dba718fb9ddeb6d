"""Retrieval: the strategy that attaches documents to records, among them the right one and such as distract from it.

Invariant: which documents a record gets follows from the index, the record and the run's seed alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Document, Prompted, Record


class Searchable(Protocol):
    """What finds documents for a text, such as `retrieval.BM25` and `retrieval.Embedded`."""

    @property
    def documents(self) -> Sequence[Document]:
        """All of them."""
        ...

    def named(self, id: str) -> Document | None:
        """The one with this id."""
        ...

    def search(self, text: str, k: int) -> Sequence[tuple[Document, float]]:
        """The best for a text with their scores, the best first."""
        ...


def query_of(record: Record) -> str:
    """What is searched for unless told otherwise: the instruction of a prompt, the text of another record."""
    text = record.instruction if isinstance(record, Prompted) else getattr(record, "text", None)
    if not isinstance(text, str):
        raise ConfigError(f"Retrieve: {type(record).__name__} has neither a prompt nor a text; pass query=FUNCTION")
    return text


@dataclass(frozen=True)
class Retrieve:
    """Each record with the documents that an index finds for it; asks no teacher.

    They stand in `meta["documents"]`, a list of objects with `id`, `title`, `source`, `text` and `gold`, where a
    teacher's template may use them; or in the prompt, which teacher and student see, and then `meta` leaves `text` out.

    Without `gold` they are the best `k`, the best first, and fewer where fewer are found. With it, `k` distractors (the
    best that are not the gold document, filled up with others by chance) are mixed, and the gold document is among them
    in a share `p` of the records. A record whose gold document is not in the index is rejected ("no gold document").

    Args:
        index: where to search.
        k: how many, or how probable each number is: `{0: 0.2, 1: 0.1, 2: 0.3, 3: 0.4}`.
        query: from a record to the text that is searched for.
        into: `meta`, or `prompt`: the last user turn becomes what the template makes of it and the documents.
        gold: which document holds the answer: a field or an entry of `meta` with its id (`parents`, for records made
            from documents: the first that the index knows), or a function that gives the id.
        p: share of the records, 0 to 1, that get their gold document.
        prompt: the template for `into="prompt"`; it may use `documents` and what the record has.

    Reference: Zhang et al. 2024, RAFT, arXiv:2403.10131; Luo et al. 2023, SAIL, arXiv:2305.15225; Patil et al. 2023,
        Gorilla, arXiv:2305.15334.
    """

    index: Searchable
    k: int | Mapping[int, float] = 4
    query: Callable[[Any], str] = query_of
    into: Literal["meta", "prompt"] = "meta"
    gold: str | Callable[[Any], str | None] | None = None
    p: float = 1.0
    prompt: Prompt[str] = field(default_factory=lambda: Prompt("retrieval/documents_before", str))

    def __post_init__(self) -> None:
        counts = self.k if isinstance(self.k, Mapping) else {self.k: 1.0}
        if not counts or min(counts) < 0 or max(counts) < 1 or min(counts.values()) < 0 or sum(counts.values()) <= 0:
            raise ConfigError(f"Retrieve(k={self.k!r}): expected at least 1 document, or numbers with their shares")
        if not 0 <= self.p <= 1:
            raise ConfigError(f"Retrieve(p={self.p!r}): expected a share of the records, 0 to 1")
        if self.into not in ("meta", "prompt"):
            raise ConfigError(f"Retrieve(into={self.into!r}): expected 'meta' or 'prompt'")

    def check(self, record: Record) -> None:
        """Refuse a record that has no prompt to put documents into, and a template that wants what it does not have."""
        self.query(record)
        if self.into == "prompt":
            self.prompt.check(_prompted(record), "documents")

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Record]:
        documents, gold = await asyncio.to_thread(self._chosen, record, ask.rng)
        shown = [_shown(document, gold) for document in documents]
        update: dict[str, Any] = {"parents": (record.id,)}
        if self.into == "prompt":
            update["prompt"] = self._around(_prompted(record), shown)
            shown = [{name: value for name, value in one.items() if name != "text"} for one in shown]
        update["meta"] = {**record.meta, "documents": shown}
        return [record.model_copy(update=update)]

    def _chosen(self, record: Record, rng: random.Random) -> tuple[list[Document], Document | None]:
        """The documents in their order, and which is the gold one."""
        count = self.k if isinstance(self.k, int) else rng.choices(list(self.k), list(self.k.values()))[0]
        gold = self._gold(record) if self.gold is not None else None
        # One more, in case that the gold document is among them, and some more for copies of it.
        found = self.index.search(self.query(record), count if gold is None else count + 4) if count else ()
        if gold is None:
            return [document for document, _ in found], None
        distractors = [document for document, _ in found if document.text != gold.text][:count]
        known = {gold.text, *(document.text for document in distractors)}
        if len(distractors) < count:
            documents = self.index.documents
            for place in rng.sample(range(len(documents)), min(len(documents), 8 * count + 16)):
                if len(distractors) == count:
                    break
                if documents[place].text not in known:
                    known.add(documents[place].text)
                    distractors.append(documents[place])
        if rng.random() < self.p:
            distractors.append(gold)
        rng.shuffle(distractors)
        return distractors, gold

    def _gold(self, record: Record) -> Document:
        if callable(self.gold):
            named: Any = self.gold(record)
        else:
            assert self.gold is not None
            named = getattr(record, self.gold) if self.gold in type(record).model_fields else record.meta.get(self.gold)
        ids = (named,) if isinstance(named, str) else tuple(named or ())
        for id in ids:
            if (document := self.index.named(id)) is not None:
                return document
        raise RecordError(f"the index has no document with an id of {ids}", reason="no gold document")

    def _around(self, record: Prompted, documents: list[dict[str, JsonValue]]) -> str | tuple[Message, ...]:
        """The prompt with its last user turn rewritten; pictures stay."""
        text = self.prompt.fill(record, documents=documents).messages[-1].text
        if isinstance(record.prompt, str):
            return text
        turns = list(record.prompt)
        last = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=None)
        if last is None:
            raise RecordError("the prompt has no user turn to put documents into", reason="no user turn")
        images = turns[last].images
        turns[last] = replace(turns[last], content=(text, *images) if images else text)
        return tuple(turns)


def _prompted(record: Record) -> Prompted:
    if not isinstance(record, Prompted):
        raise ConfigError(f"Retrieve(into='prompt'): {type(record).__name__} has no prompt; use into='meta'")
    return record


def _shown(document: Document, gold: Document | None) -> dict[str, JsonValue]:
    return {
        "id": document.id,
        "title": document.title,
        "source": document.source,
        "text": document.text,
        "gold": gold is not None and document.id == gold.id,
    }

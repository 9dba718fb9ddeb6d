"""Replies that are lists: the only place where one reply of many entries becomes texts that each may be a record.

Invariant: an entry that becomes none is counted among the dropped draws, and a reply of which nothing is left rejects
its record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.record import Record

X = TypeVar("X")

_NUMBER = re.compile(r"^[^\S\n]*+\d{1,4}[.)][^\S\n]++", re.MULTILINE)


class Listed(BaseModel):
    """The typed reply of strategies that ask for several texts at once."""

    items: list[str] = Field(min_length=1, description="What was asked for, one text each, without numbers.")


def entries(reply: Listed | str) -> list[str]:
    """The texts of a reply. Plain text that begins with a number is cut at numbered lines; other text is one."""
    if isinstance(reply, Listed):
        return reply.items
    if not _NUMBER.match(reply.lstrip()):
        return [reply]
    found = list(_NUMBER.finditer(reply))
    ends = [*(one.start() for one in found[1:]), len(reply)]
    return [reply[one.end() : end] for one, end in zip(found, ends, strict=True)]


def distinct(texts: Iterable[str], ask: Ask, *, n: int | None = None, known: Iterable[str] = ()) -> list[str]:
    """What is new in a list: without blanks, repetitions, what was known before, and what is beyond the first `n`.

    Raises:
        RecordError: nothing is left.
    """
    return fresh(((text, text.strip()) for text in texts), ask, n=n, known=known)


def fresh(
    entries: Iterable[tuple[str, X]],
    ask: Ask,
    *,
    n: int | None = None,
    known: Iterable[str] = (),
    reason: str = "nothing new",
) -> list[X]:
    """The same of entries that are more than a text: each with the text it is known by, blank for one of no use.

    Raises:
        RecordError: nothing is left, for this reason.
    """
    seen = {folded(text) for text in known}
    found: list[X] = []
    lost = 0
    for text, entry in entries:
        mark = folded(text)
        if not mark:
            ask.dropped["blank entry"] += 1
        elif mark in seen:
            ask.dropped["repeated entry"] += 1
        elif n is not None and len(found) == n:
            ask.dropped["more than asked for"] += 1
        else:
            seen.add(mark)
            found.append(entry)
            continue
        lost += 1
    if not found:
        raise RecordError(f"none of the {lost} entries of the reply is new", reason=reason)
    return found


def folded(text: str) -> str:
    """A text without differences of letter case and white space."""
    return " ".join(text.casefold().split())


def drawn(texts: Sequence[str], k: int, ask: Ask) -> list[str]:
    """`k` of some texts, or all of fewer, by the record's own generator."""
    return ask.rng.sample(texts, min(k, len(texts))) if texts else []


def offered(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """What a record offers under some names that a template may do without; an empty text for those it has not."""
    known = record.variables()
    return {name: known.get(name) or "" for name in names}


def at_least_one(strategy: object, name: str) -> None:
    """Refuse a number that would ask for nothing.

    Raises:
        ConfigError: the field is less than 1.
    """
    value = getattr(strategy, name)
    if value < 1:
        raise ConfigError(f"{type(strategy).__name__}({name}={value}): at least 1 is needed")

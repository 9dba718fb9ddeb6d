"""Every teacher call of a run: the only place where completions are stored and found again.

Invariant: `record` returns when the completion is on disk, and nobody sees a completion before that. What a provider
never answered is not here: it is owed at the next run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import orjson

from synthkd.budget import Spent
from synthkd.database import Database
from synthkd.message import as_kept
from synthkd.request import Completion, Request, Usage
from synthkd.text import storable

_INSERT = (
    "INSERT OR IGNORE INTO calls (key, source, sample, request, text, reasoning, finish_reason, other, prompt_tokens,"
    " completion_tokens, reasoning_tokens, cached_tokens, seconds, created, cost)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_SPENT = (
    "SELECT s.teacher, COUNT(*), SUM(c.prompt_tokens), SUM(c.completion_tokens), MAX(c.completion_tokens), SUM(c.cost)"
    " FROM calls c JOIN sources s ON s.id = c.source GROUP BY s.teacher, c.cost IS NULL"
)
_SELECT = (
    "SELECT id, key, text, reasoning, finish_reason, other, prompt_tokens, completion_tokens, reasoning_tokens,"
    " cached_tokens FROM calls WHERE "
)
_BY_KEY, _BLOCK_OF = _SELECT + "key = ?", _SELECT + "id BETWEEN ? AND ?"
_EFFECT = "SELECT result FROM effects WHERE key = ?"
_BLOCK = 128
"""Calls that are read at a time, while a replay asks for them in about the order in which they were made."""
_BLOCKS = 16
_PAUSE = 512
"""Look-ups, after a block was read for nothing, in which no other is."""


class Journal:
    """Completions by key, in the run's file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.run = database.run
        self._sources: dict[tuple[str, str, bytes], int] = {
            (teacher, prompt, sampling.encode()): number
            for number, teacher, prompt, sampling in database.read("SELECT id, teacher, prompt, sampling FROM sources")
        }
        self._near: dict[bytes, tuple[Any, ...]] = {}
        self._blocks: dict[int, list[bytes]] = {}
        self._pause = 0

    def source(self, teacher: str, request: Request[Any]) -> int:
        """The number under which this combination of teacher, prompt and sampling is known as a provenance."""
        return self._number(teacher, request.prompt, request.sampling.canonical())

    def adopted(self, database: Database, number: int) -> int:
        """The number here of a provenance that has this one in another run's file."""
        [row] = database.read("SELECT teacher, prompt, sampling FROM sources WHERE id = ?", (number,))
        return self._number(row[0], row[1], row[2].encode())

    def _number(self, teacher: str, prompt: str, sampling: bytes) -> int:
        place = (teacher, prompt, sampling)
        number = self._sources.get(place)
        if number is None:
            number = self._sources[place] = len(self._sources) + 1
            row = (number, teacher, prompt, sampling.decode())
            self._database.put("INSERT OR IGNORE INTO sources VALUES (?,?,?,?)", row)
        return number

    def find(self, key: bytes) -> Completion | None:
        """The completion under a key, or None if it was never drawn."""
        row = self._near.pop(key, None)
        if row is None:
            rows = self._database.read(_BY_KEY, (key,))
            if not rows:
                return None
            row = rows[0]
            self._look_around(row[0])
        _, _, text, reasoning, finish_reason, other, *usage = row
        if other is None:
            return Completion(text, reasoning, finish_reason, usage=Usage(*usage))
        return Completion(text, reasoning, finish_reason, usage=Usage(*usage), **_frozen(orjson.loads(other)))

    def _look_around(self, number: int) -> None:
        """Read the block of calls around one that was asked for; a few blocks are kept, each call is given once."""
        block = number // _BLOCK
        if self._pause:
            self._pause -= 1
            return
        if block in self._blocks:
            return
        rows = self._database.read(_BLOCK_OF, (block * _BLOCK, (block + 1) * _BLOCK - 1))
        self._near.update((row[1], row) for row in rows if row[0] != number)
        self._blocks[block] = [row[1] for row in rows]
        if len(self._blocks) > _BLOCKS:
            keys = self._blocks.pop(next(iter(self._blocks)))
            unused = sum(self._near.pop(key, None) is not None for key in keys)
            if unused > 0.8 * len(keys):  # asked for in another order, where reading ahead is a waste
                self._pause = _PAUSE

    def seconds(self, key: bytes) -> float:
        """How long the call took that drew this completion; 0 if it was never drawn."""
        rows = self._database.read("SELECT seconds FROM calls WHERE key = ?", (key,))
        return float(rows[0][0] or 0.0) if rows else 0.0

    def spent(self) -> list[Spent]:
        """What every call so far took, by teacher; reads the whole journal."""
        return [Spent(*row) for row in self._database.read(_SPENT)]

    def owns(self, database: Database) -> bool:
        """Whether this is the journal in that file."""
        return database is self._database

    def effect(self, key: bytes) -> Any:
        """What an effect or a score gave, in a list of one; an empty list if it was never had."""
        return [orjson.loads(result) for (result,) in self._database.read(_EFFECT, (key,))]

    async def keep(self, key: bytes, kind: str, asked: bytes, result: Any) -> Any:
        """Put what an effect or a score gave on disk, and return it once it is there.

        What comes back is what a replay will find: JSON has no NaN and no infinity, which have become None.
        """
        text = orjson.dumps(result).decode()
        self._database.put(
            "INSERT OR IGNORE INTO effects VALUES (?,?,?,?,?)", (key, kind, asked.decode(), text, time.time())
        )
        await self._database.committed()
        return orjson.loads(text)

    async def record(
        self,
        drawn: Sequence[tuple[bytes, int, Completion]],
        source: int,
        request: Request[Any],
        seconds: float,
        costs: Sequence[float | None] = (),
    ) -> list[Completion]:
        """Put completions on disk, each with its key and sample index, and return them once they are there.

        What comes back is what a replay will find: half of a character, which no file can hold, has become U+FFFD.

        Args:
            drawn: key, sample index and completion of each draw.
            source: the number of their provenance.
            request: what was asked.
            seconds: how long the call took, its last try; waiting in the line is not in it.
            costs: US dollars of each draw; None, or nothing at all, where the price is unknown.
        """
        now = time.time()
        asked: bytes | None = as_kept(request.messages)
        kept: list[Completion] = []
        for (key, sample, completion), cost in zip_longest(drawn, costs):
            completion, other = _storable(completion)
            kept.append(completion)
            usage = completion.usage
            self._database.put(
                _INSERT,
                (
                    key,
                    source,
                    sample,
                    asked.decode() if asked else None,
                    completion.text,
                    completion.reasoning,
                    completion.finish_reason,
                    other,
                    usage.prompt_tokens,
                    usage.completion_tokens,
                    usage.reasoning_tokens,
                    usage.cached_tokens,
                    seconds,
                    now,
                    cost,
                ),
            )
            asked = None  # the messages stand with the first draw of a call only
        await self._database.committed()
        return kept


def _storable(completion: Completion) -> tuple[Completion, str | None]:
    """The completion as the file can hold it, and the column of its rarer fields."""
    try:
        for text in (completion.text, completion.reasoning, completion.finish_reason):
            if text and not text.isascii():
                text.encode()
        return completion, _other(completion)
    except (TypeError, UnicodeEncodeError):
        names = ("text", "reasoning", "finish_reason", "refusal", "tool_calls", "logprobs", "model")
        completion = replace(completion, **{name: storable(getattr(completion, name)) for name in names})
        return completion, _other(completion)


def _other(completion: Completion) -> str | None:
    names = ("refusal", "tool_calls", "logprobs", "model")
    fields = {name: value for name in names if (value := getattr(completion, name)) not in (None, ())}
    return orjson.dumps(fields).decode() if fields else None


def _frozen(more: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in more.items()}

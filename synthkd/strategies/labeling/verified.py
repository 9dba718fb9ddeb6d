"""Rejection sampling: strategies that keep the completions which agree with a known answer.

Invariant: the known answer never reaches the student's prompt, and what is kept has been checked, a hint or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import JsonValue

from synthkd.ask import Ask, Strategy
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Prompted, Record
from synthkd.strategies.branching import Branch, called, check
from synthkd.strategies.labeling.making import demonstration
from synthkd.strategies.labeling.swapping import Swap
from synthkd.verify.answers import exact, final_answer, marked_answer, matches

In = TypeVar("In", bound=Prompted)

Verify = Callable[[str, Any], object] | Callable[[str, Any], Awaitable[object]]
"""From a whole completion and what is known to something that is true where the completion is right."""

_APART = 1000
"""From the first draw of one try to that of the next; no strategy draws as much of one request."""


@dataclass(frozen=True)
class Gold:
    """A known answer, and when a completion agrees with it.

    Args:
        name: the record's field, or the entry of its `meta`, that holds it. Of a whole solution (`... #### 72`), the
            answer marked in it is taken.
        by: from a found and the known answer to whether they are the same: `exact`, `matches`, or another.
        find: from a completion to its answer.
        verify: in their place. What an async one says is kept in the journal, so a replay runs nothing.
    """

    name: str
    by: Callable[[str, str], bool] = exact
    find: Callable[[str], str | None] = final_answer
    verify: Verify | None = None

    def check(self, record: Record) -> None:
        """Refuse a record without a known answer."""
        found = record.variables()
        if self.name not in found:
            raise ConfigError(
                f"the known answer is looked for in {self.name!r}, and the record has no such field and no such entry "
                f"in meta; it has {', '.join(found)}. Name another with gold=..."
            )

    def known(self, record: Record) -> JsonValue:
        """The known answer of a record: a text, or for `verify` what is there, such as a list of tests."""
        found = record.variables().get(self.name)
        if self.verify is not None and found is not None:
            return cast(JsonValue, found)
        if not isinstance(found, str | int | float) or isinstance(found, bool) or not str(found).strip():
            raise RecordError(
                f"the known answer is looked for in {self.name!r}, which holds {str(found)[:80]!r}; "
                "expected text or a number",
                reason="no gold answer",
            )
        return marked_answer(str(found)) or str(found).strip()

    async def agrees(self, completion: str, known: JsonValue, ask: Ask) -> bool | None:
        """Whether a completion gives the known answer; `None` where it gives none."""
        if self.verify is not None:
            about: dict[str, JsonValue] = {"completion": completion, "known": known}
            return bool(await called(ask, "verify", self.verify, (completion, known), about, bool))
        known = str(known)
        if exact(completion, known):  # an answer and nothing else, which `find` may see nothing in
            return True
        found = self.find(completion)
        if found is None:
            return None
        if self.by is matches:  # may take its time
            return await asyncio.to_thread(matches, found, known)
        return self.by(found, known)


@dataclass(frozen=True)
class Correct:
    """The candidates that agree with a known answer, as demonstrations; asks no teacher.

    `meta["pass_rate"]` is the share that agrees. Where none does, the record is rejected: "wrong answer", or
    "no final answer" where none gives any.

    Args:
        gold: the record's field, or the entry of its `meta`, that holds the known answer.
        most: keep no more than so many; equal completions count once.
        by: from a found and the known answer to whether they are the same: `exact`, `matches`, or another.
        find: from a completion to its answer.
        verify: in their place, from a whole completion and what `gold` holds to whether it is right; may be async.

    Reference: Yuan et al. 2023, rejection sampling fine-tuning, arXiv:2308.01825.
    """

    gold: str = "answer"
    most: int | None = None
    by: Callable[[str, str], bool] = exact
    find: Callable[[str], str | None] = final_answer
    verify: Verify | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ConfigError(f"Correct(most={self.most}): at least one must be kept, or None for all")

    def check(self, record: Candidates) -> None:
        """Refuse a record without a known answer."""
        Gold(self.gold).check(record)

    async def __call__(self, record: Candidates, ask: Ask) -> Sequence[Demonstration]:
        gold = Gold(self.gold, self.by, self.find, self.verify)
        known = gold.known(record)
        verdicts = [await gold.agrees(completion, known, ask) for completion in record.completions]
        if not any(verdicts):
            raise _wrong(verdicts, known)
        reasonings = record.reasonings or (None,) * len(record.completions)
        right = [
            (completion, reasoning)
            for completion, reasoning, verdict in zip(record.completions, reasonings, verdicts, strict=True)
            if verdict
        ]
        made = [demonstration(record, *pair) for pair in list(dict.fromkeys(right))[: self.most]]
        share = sum(map(bool, verdicts)) / len(verdicts)
        return [one.model_copy(update={"meta": {**one.meta, "pass_rate": share}}) for one in made]


@dataclass(frozen=True)
class Verified(Generic[In]):
    """A strategy tried until a completion agrees with a known answer, and with a hint where none does.

    Tries follow each other, so nothing is drawn that is not needed; `meta["tries"]` says how many it took. With `hint`,
    a record on which all tries failed is asked once more with the known answer shown to the teacher alone, and what
    comes of it is checked like all else; it is told by its `privileged_context`, which holds the hint. What is never
    right is rejected: "wrong answer", or "no final answer".

    Args:
        strategy: gives demonstrations, or candidates, of which each completion is looked at.
        gold: the record's field, or the entry of its `meta`, that holds the known answer.
        tries: how often the strategy is tried.
        most: how many right completions are enough; different ones, and no more are kept.
        hint: words the hint; the list `shown` in it holds the known answer. Built in is `labeling/gold`.
        by: from a found and the known answer to whether they are the same: `exact`, `matches`, or another.
        find: from a completion to its answer.
        verify: in their place, from a whole completion and what `gold` holds (an answer, tests) to whether it is right:
            `async def verify(program, tests)` that runs it in a sandbox. Its verdicts are kept in the journal.

    Reference: Zelikman et al. 2022, STaR, arXiv:2203.14465; Yuan et al. 2023, arXiv:2308.01825.
    """

    strategy: Strategy[In, Demonstration | Candidates]
    gold: str = "answer"
    tries: int = 4
    most: int = 1
    hint: Prompt[str] | None = None
    by: Callable[[str, str], bool] = exact
    find: Callable[[str], str | None] = final_answer
    verify: Verify | None = None

    def __post_init__(self) -> None:
        for name in ("tries", "most"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Verified({name}={getattr(self, name)}): at least one is needed")

    def check(self, record: In) -> None:
        """Refuse a record without a known answer, and a hint that wants what the record does not have."""
        Gold(self.gold).check(record)
        if self.hint is not None:
            self.hint.check(record, "shown")
        check(self.strategy, record)

    async def __call__(self, record: In, ask: Ask) -> Sequence[Demonstration]:
        gold = Gold(self.gold, self.by, self.find, self.verify)
        known = gold.known(record)
        found = _Found()
        for number in range(self.tries):
            await self._try(self.strategy, record, Branch(ask, first=number * _APART), gold, known, found)
            if len(found.right) >= self.most:
                break
        tries = number + 1
        if not found.right and self.hint is not None:
            tries += 1
            await self._try(Swap(self.strategy, str(known), prompt=self.hint), record, ask, gold, known, found)
        if not found.right:
            raise found.failures[0] if not found.verdicts else _wrong(found.verdicts, known)
        ask.dropped.update(failure.reason for failure in found.failures)
        ask.dropped.update(_reason(verdict) for verdict in found.verdicts if not verdict)
        kept = list(found.right.values())[: self.most]
        return [one.model_copy(update={"meta": {**one.meta, "tries": tries}}) for one in kept]

    async def _try(
        self,
        strategy: Strategy[In, Demonstration | Candidates],
        record: In,
        ask: Ask,
        gold: Gold,
        known: JsonValue,
        found: _Found,
    ) -> None:
        try:
            outputs = await strategy(record, ask)
        except RecordError as error:
            found.failures.append(error)
            return
        if not outputs:
            found.failures.append(RecordError("the strategy gave nothing back", reason="no output"))
        for output in outputs or ():
            for one in _each(output):
                found.verdicts.append(verdict := await gold.agrees(one.completion, known, ask))
                if verdict:
                    found.right.setdefault((one.completion, one.reasoning), one)


class _Found:
    """What the tries for one record have given."""

    def __init__(self) -> None:
        self.right: dict[tuple[str, str | None], Demonstration] = {}
        self.verdicts: list[bool | None] = []
        self.failures: list[RecordError] = []


def _each(output: Demonstration | Candidates) -> list[Demonstration]:
    """What is looked at: a demonstration, or one for each of the candidates."""
    if isinstance(output, Demonstration):
        return [output]
    if not isinstance(output, Candidates):
        raise ConfigError(f"Verified was given a {type(output).__name__}; expected Demonstrations or Candidates")
    reasonings = output.reasonings or (None,) * len(output.completions)
    made = [demonstration(output, *pair) for pair in zip(output.completions, reasonings, strict=True)]
    return [one.model_copy(update={"parents": output.parents}) for one in made]


def _wrong(verdicts: Sequence[bool | None], known: JsonValue) -> RecordError:
    told = sum(verdict is not None for verdict in verdicts)
    message = f"of {len(verdicts)} completions {told} give an answer, and none of them agrees with {str(known)[:80]!r}"
    return RecordError(message, reason=_reason(False if told else None))


def _reason(verdict: bool | None) -> str:
    return "no final answer" if verdict is None else "wrong answer"

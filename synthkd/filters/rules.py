"""Rules: the only place for the protocol that all filters share, for what combines them, and for the plainest of them.

Invariant: a filter gives one verdict a record, in order, while the records stream past, and changes none. Reasons are
few and fixed, because the ledger counts by them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from synthkd.errors import ConfigError, DataError
from synthkd.filters.parts import TextRule
from synthkd.record import Candidates, Demonstration, Instruction, Preference, Record
from synthkd.verify.answers import final_answer, marked_answer, matches

R = TypeVar("R", bound=Record)
R_contra = TypeVar("R_contra", bound=Record, contravariant=True)


class Filter(Protocol[R_contra]):
    """Anything that gives one verdict a record, in their order: `None` keeps it, a reason drops it.

    It may look at records before it answers for earlier ones (to compare them), but what it holds is its own cost. A
    filter of a general kind serves the special ones: `Filter[Prompted]` takes demonstrations.
    """

    def __call__(self, records: Iterable[R_contra], /) -> Iterator[str | None]: ...


def each(predicate: Callable[[R], bool], reason: str | None = None) -> Filter[R]:
    """Keep the records for which a function is true.

    Args:
        predicate: From a record to `True` (keep) or `False` (drop).
        reason: What the ledger says of those dropped; `not NAME`, with the function's name, where it is left out.

    Raises:
        ConfigError: While filtering, where the function gives neither true nor false.
    """
    return _Each(predicate, reason or f"not {getattr(predicate, '__name__', type(predicate).__name__)}")


def every(*rules: Filter[R]) -> Filter[R]:
    """Keep the records that all filters keep, in one stage; what one drops, the filters after it do not see.

    The first reason stands. As many records are held as the filters look ahead, and no fewer than are dropped in a row.

    Raises:
        ConfigError: No filter is given; while filtering, one that does not give a verdict for each record.
    """
    if not rules:
        raise ConfigError("every() needs at least one filter, such as every(length(min_words=3), no_refusal()).")
    return _Every(rules)


class OneByOne:
    """A filter that is asked about one record at a time, as where what comes next depends on its verdict.

    Raises:
        ConfigError: While asked, where a filter wants to see later records first, as `balance` does.
    """

    def __init__(self, rule: Filter[Any]) -> None:
        self._parts = [_Fed(part) for part in (rule.rules if isinstance(rule, _Every) else (rule,))]

    def __call__(self, record: Record) -> str | None:
        return next((verdict for part in self._parts if (verdict := part(record)) is not None), None)


class _Fed:
    def __init__(self, rule: Filter[Any]) -> None:
        self._rule = rule
        self._given: list[Record] = []
        self._verdicts = rule(self._feed())

    def __call__(self, record: Record) -> str | None:
        self._given.append(record)
        return next(self._verdicts)

    def _feed(self) -> Iterator[Record]:
        while True:
            if not self._given:
                raise ConfigError(
                    f"{self._rule!r} wants to see later records before it answers; here each verdict decides what "
                    "comes next. Use filters that stream, such as novelty() and length(), and filter the rest later."
                )
            yield self._given.pop()


@overload
def length(
    *,
    min_words: int | None = None,
    max_words: int | None = None,
    min_chars: int | None = None,
    max_chars: int | None = None,
    of: Literal["completion"] = "completion",
) -> Filter[Demonstration | Preference | Candidates]: ...
@overload
def length(
    *,
    min_words: int | None = None,
    max_words: int | None = None,
    min_chars: int | None = None,
    max_chars: int | None = None,
    of: Literal["prompt"],
) -> Filter[Instruction | Demonstration | Preference | Candidates]: ...
def length(
    *,
    min_words: int | None = None,
    max_words: int | None = None,
    min_chars: int | None = None,
    max_chars: int | None = None,
    of: Literal["completion", "prompt"] = "completion",
) -> Filter[Instruction] | Filter[Demonstration | Preference | Candidates]:
    """Keep the records whose text is neither too short nor too long; each limit is inclusive.

    Args:
        min_words: Fewest words, by white space.
        max_words: Most words.
        min_chars: Fewest characters.
        max_chars: Most characters.
        of: `completion`: of a `Preference` both completions must be within the limits, of `Candidates` all of them;
            `prompt`: the texts of its messages together, of any record that has a prompt.

    Raises:
        ConfigError: No limit is given, or they leave nothing; while filtering, a record that has no such text.
    """
    limits = {"min_words": min_words, "max_words": max_words, "min_chars": min_chars, "max_chars": max_chars}
    if all(limit is None for limit in limits.values()):
        raise ConfigError(f"length() needs at least one of {', '.join(limits)}.")
    for low, high in ((min_words, max_words), (min_chars, max_chars)):
        if low is not None and high is not None and low > high:
            raise ConfigError(f"length(): the least, {low}, is more than the most, {high}; no text would be kept.")
    if of not in ("completion", "prompt"):
        raise ConfigError(f"length(of={of!r}): expected 'completion' or 'prompt'.")
    return _Length(of, min_words, max_words, min_chars, max_chars)


def verify(
    gold: str = "answer",
    by: Callable[[str, str], bool] = matches,
    find: Callable[[str], str | None] = final_answer,
) -> Filter[Demonstration]:
    """Keep the demonstrations whose final answer is the known one; others are a "wrong answer" or "no final answer".

    Args:
        gold: The record's field, or the entry of its `meta`, that holds the known answer. Where that is a whole
            solution (`... #### 72`), the answer marked in it is taken.
        by: From the found and the known answer to whether they are the same: `matches`, or `exact`, which is faster
            and knows numbers but no algebra.
        find: From a completion to its final answer.

    Raises:
        DataError: While filtering, a record without a known answer.
    """
    return _Verify(gold, by, find)


@dataclass(frozen=True)
class _Each(Generic[R]):
    predicate: Callable[[R], bool]
    reason: str

    @property
    def __name__(self) -> str:
        return getattr(self.predicate, "__name__", "each")

    def __call__(self, records: Iterable[R], /) -> Iterator[str | None]:
        for record in records:
            verdict = self.predicate(record)
            if verdict is None or isinstance(verdict, str):
                raise ConfigError(
                    f"The function {self.__name__!r} given to each() returned {verdict!r} for record {record.id}; "
                    "expected True (keep) or False (drop)."
                )
            yield None if verdict else self.reason


@dataclass(frozen=True)
class _Every:
    rules: tuple[Filter[Any], ...]

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        waiting: deque[_Judged] = deque()

        def entering() -> Iterator[_Judged]:
            for record in records:
                waiting.append(_Judged(record))
                yield waiting[-1]

        left: Iterator[_Judged] = entering()
        for rule in self.rules:
            left = _passing(rule, left)
        for judged in left:
            judged.open = False
            while waiting and not waiting[0].open:
                yield waiting.popleft().reason
        yield from (judged.reason for judged in waiting)


class _Judged:
    """A record on its way through several filters."""

    __slots__ = ("open", "reason", "record")

    def __init__(self, record: Record) -> None:
        self.record: Record | None = record
        self.open = True
        self.reason: str | None = None


def _passing(rule: Filter[Any], judged: Iterator[_Judged]) -> Iterator[_Judged]:
    """Those that a filter keeps; the others are closed with its reason."""
    given: deque[_Judged] = deque()

    def seen() -> Iterator[Record]:
        for one in judged:
            given.append(one)
            if one.record is not None:
                yield one.record

    for verdict in rule(seen()):
        if not given:
            raise ConfigError(f"{rule!r} gave every() a verdict for no record; it must give one each, in order.")
        one = given.popleft()
        if verdict is None:
            yield one
        else:
            one.record, one.open, one.reason = None, False, verdict
    if given or next(judged, None) is not None:
        raise ConfigError(f"{rule!r} gave every() too few verdicts; it must give one for each record, in order.")


@dataclass(frozen=True)
class _Length(TextRule):
    min_words: int | None
    max_words: int | None
    min_chars: int | None
    max_chars: int | None

    def _reason(self, text: str) -> str | None:
        if self.min_chars is not None and len(text) < self.min_chars:
            return f"fewer than {self.min_chars} characters"
        if self.max_chars is not None and len(text) > self.max_chars:
            return f"more than {self.max_chars} characters"
        words = len(text.split()) if self.min_words is not None or self.max_words is not None else 0
        if self.min_words is not None and words < self.min_words:
            return f"fewer than {self.min_words} words"
        if self.max_words is not None and words > self.max_words:
            return f"more than {self.max_words} words"
        return None


@dataclass(frozen=True)
class _Verify:
    gold: str
    by: Callable[[str, str], bool]
    find: Callable[[str], str | None]

    def __call__(self, records: Iterable[Demonstration], /) -> Iterator[str | None]:
        for record in records:
            known = self._known(record)
            found = self.find(record.completion)
            if found is None:
                yield "no final answer"
            else:
                yield None if self.by(found, known) else "wrong answer"

    def _known(self, record: Demonstration) -> str:
        fields = type(record).model_fields
        value = getattr(record, self.gold) if self.gold in fields else record.meta.get(self.gold)
        if not isinstance(value, (str, int, float)) or isinstance(value, bool) or value == "":
            has = [name for name in fields if name not in ("parents", "meta")]
            raise DataError(
                f"Record {record.id}: verify() looks for the known answer in {self.gold!r}, and finds {value!r}; "
                f"expected text or a number. Fields: {', '.join(has)}; in meta: {', '.join(record.meta) or 'nothing'}. "
                "Name another with verify(gold=...), or bring it along with "
                f"data.read(..., fields={{'meta.{self.gold}': COLUMN}})."
            )
        text = str(value)
        return marked_answer(text) or text

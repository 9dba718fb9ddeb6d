"""Scores: the only place that turns numbers and votes into verdicts.

Invariant: a record without a score is dropped as such; a missing number never counts as a high or low one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError, DataError
from synthkd.filters.parts import By, Of, checked_of, in_batches, kind_of, name_of, texts_of, value_of
from synthkd.record import Preference, Record
from synthkd.verify.answers import exact, final_answer

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter


def score(
    by: By,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    top: int | float | None = None,
    within: By | None = None,
    batch: int | None = None,
) -> Filter[Any]:
    """Keep the records whose score is within limits, or among the highest.

    Records stream, unless `top` is given: then all are seen before the first is answered, and their scores are held.

    Args:
        by: The name of a field or of an entry of `meta`, or a function from the record to a number. Where that is
            `None` or not a number (nan), the reason is "no NAME".
        at_least: The lowest score that stays.
        at_most: The highest.
        above: As `at_least`, without the value itself.
        below: As `at_most`, without the value itself.
        top: Of those within the limits the highest so many (an `int`), or the highest share (a `float` up to 1.0,
            rounded up); of equal scores the earlier record goes first.
        within: The highest of each group, where groups have this value in common.
        batch: Give `by` lists of so many records, and take as many scores: for a model that scores many at a time.

    Raises:
        ConfigError: No limit, or limits that make no sense; while filtering, a score that is not a number.
        DataError: While filtering, a record that has neither a field nor an entry of that name.
    """
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "below": below}
    if top is None and all(limit is None for limit in limits.values()):
        raise ConfigError(f"score() needs a limit: {', '.join(limits)} or top.")
    for low in (at_least, above):
        for high in (at_most, below):
            if low is not None and high is not None and low > high:
                raise ConfigError(f"score(): the least, {low}, is more than the most, {high}; nothing would be kept.")
    good_top = top is None or (not isinstance(top, bool) and (top >= 1 if isinstance(top, int) else 0 < top <= 1))
    if not good_top:
        raise ConfigError(f"score(top={top!r}): expected a number of records such as 100, or a share such as 0.1.")
    if within is not None and top is None:
        raise ConfigError("score(within=...) makes groups for top=..., which is not given.")
    if batch is not None and (batch < 1 or isinstance(by, str)):
        raise ConfigError(f"score(batch={batch!r}): expected at least 1, with a function that takes a list of records.")
    return _Score(by, at_least, at_most, above, below, top, within, batch)


def margin(at_least: float = 0.0) -> Filter[Preference]:
    """Keep the preferences whose chosen completion scores higher, by at least so much; else a "small margin".

    A margin of zero is never enough. A preference without both scores has "no scores".

    Raises:
        ConfigError: The margin is below zero.
    """
    if not at_least >= 0:
        raise ConfigError(f"margin(at_least={at_least!r}): expected at least 0; the chosen one must score higher.")
    return _Margin(at_least)


def agreement(
    at_least: float = 0.5,
    *,
    of: Of = "completion",
    find: Callable[[str], str | None] = final_answer,
    by: Callable[[str, str], bool] = exact,
) -> Filter[Any]:
    """Keep the records whose votes agree: the most frequent vote has at least this share of all; else "no agreement".

    Args:
        at_least: Share of all texts, unreadable ones included; above 0, at most 1.
        of: The texts that vote, such as all completions of `Candidates`, or an entry of `meta` with a list of verdicts.
        find: From a text to its vote, or `None`, which agrees with nothing. Where no text votes: "no votes".
        by: Whether two votes are the same.

    Raises:
        ConfigError: The share makes no sense; while filtering, a record that has no such texts.

    Reference: Wang et al. 2022, Self-Consistency, arXiv:2203.11171.
    """
    if not 0 < at_least <= 1:
        raise ConfigError(f"agreement(at_least={at_least!r}): expected a share above 0 and at most 1, such as 0.5.")
    checked_of(of, "agreement")
    return _Agreement(at_least, of, find, by)


@dataclass(frozen=True)
class _Score:
    by: By
    at_least: float | None
    at_most: float | None
    above: float | None
    below: float | None
    top: int | float | None
    within: By | None
    batch: int | None

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        judged = ((self._beyond(value), value, record) for record, value in self._scored(records))
        if self.top is None:
            yield from (reason for reason, _, _ in judged)
            return
        reasons: list[str | None] = []
        groups: dict[str, list[tuple[float, int]]] = {}
        for place, (reason, value, record) in enumerate(judged):
            reasons.append(reason)
            if reason is None and value is not None:
                key = "" if self.within is None else kind_of(value_of(record, self.within, "score"))
                groups.setdefault(key, []).append((-value, place))
        for group in groups.values():
            group.sort()
            for _, place in group[self._most(len(group)) :]:
                reasons[place] = f"{name_of(self.by)} not among the top"
        yield from reasons

    def _most(self, count: int) -> int:
        if isinstance(self.top, int):
            return self.top
        return math.ceil((self.top or 0.0) * count - 1e-9)

    def _scored(self, records: Iterable[Record]) -> Iterator[tuple[Record, float | None]]:
        if self.batch is None:
            for record in records:
                yield record, self._number(value_of(record, self.by, "score"), record)
            return
        assert callable(self.by)
        for group in in_batches(records, self.batch):
            values = list(self.by(group))
            if len(values) != len(group):
                raise ConfigError(
                    f"{name_of(self.by)}() gave score() {len(values)} scores for {len(group)} records; not as many."
                )
            for record, value in zip(group, values, strict=True):
                yield record, self._number(value, record)

    def _number(self, value: Any, record: Record) -> float | None:
        if value is None:
            return None
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError):
            kind = DataError if isinstance(self.by, str) else ConfigError
            raise kind(
                f"Record {record.id}: the score {name_of(self.by)!r} is {value!r}; expected a number or None."
            ) from None
        return None if math.isnan(number) else number

    def _beyond(self, value: float | None) -> str | None:
        name = name_of(self.by)
        if value is None:
            return f"no {name}"
        if self.at_least is not None and value < self.at_least:
            return f"{name} below {self.at_least:g}"
        if self.above is not None and value <= self.above:
            return f"{name} not above {self.above:g}"
        if self.at_most is not None and value > self.at_most:
            return f"{name} above {self.at_most:g}"
        if self.below is not None and value >= self.below:
            return f"{name} not below {self.below:g}"
        return None


@dataclass(frozen=True)
class _Margin:
    at_least: float

    def __call__(self, records: Iterable[Preference], /) -> Iterator[str | None]:
        for record in records:
            if not isinstance(record, Preference):
                raise ConfigError(f"margin() judges preferences; {type(record).__name__} has no two scores.")
            if record.score_chosen is None or record.score_rejected is None:
                yield "no scores"
            else:
                apart = record.score_chosen - record.score_rejected
                yield None if apart > 0 and apart >= self.at_least else "small margin"


@dataclass(frozen=True)
class _Agreement:
    at_least: float
    of: Of
    find: Callable[[str], str | None]
    by: Callable[[str, str], bool]

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        for record in records:
            texts = texts_of(record, self.of, "agreement")
            votes: list[tuple[str, int]] = []
            for vote in map(self.find, texts):
                if vote is not None:
                    same = next((place for place, (known, _) in enumerate(votes) if self.by(vote, known)), None)
                    if same is None:
                        votes.append((vote, 1))
                    else:
                        votes[same] = (votes[same][0], votes[same][1] + 1)
            if not votes:
                yield "no votes"
            else:
                most = max(count for _, count in votes)
                yield None if most >= self.at_least * len(texts) - 1e-9 else "no agreement"

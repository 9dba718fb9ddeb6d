"""Forms: the only place that drops texts for their shape, or for numbers that do not fit.

Invariant: nothing is repaired here; a text has the form or it has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from synthkd.errors import ConfigError
from synthkd.filters.parts import Of, TextRule, checked_of, texts_of
from synthkd.record import Record
from synthkd.verify.fences import blocks

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

_ITEM = re.compile(r"^[ \t]{0,8}(?:step[ \t]*)?[0-9]{1,3}[.):](?![0-9])", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?")


def formatted(
    *,
    starts: str | tuple[str, ...] | None = None,
    ends: str | tuple[str, ...] | None = None,
    pattern: str | re.Pattern[str] | None = None,
    is_json: bool = False,
    code: bool | str = False,
    of: Of = "completion",
) -> Filter[Any]:
    """Keep the texts that have the form asked for; the reason says what is amiss.

    Args:
        starts: With what the text begins, white space aside; of several, any.
        ends: With what it ends; of several, any.
        pattern: A regular expression that is found in it; for the whole text, anchor it with `\\A` and `\\Z`.
        is_json: Whether the text is JSON and nothing else, to the letter of the standard.
        code: Whether it holds a fenced code block and leaves none open; or the language that one must have.
        of: Which text is judged; see `Of`.

    Raises:
        ConfigError: Nothing is asked for, or the pattern is no regular expression.
    """
    if starts is None and ends is None and pattern is None and not is_json and not code:
        raise ConfigError("formatted() needs something to ask for: starts, ends, pattern, is_json or code.")
    try:
        compiled = re.compile(pattern) if pattern is not None else None
    except re.error as error:
        raise ConfigError(f"formatted(pattern={pattern!r}): not a regular expression ({error}).") from None
    checked_of(of, "formatted")
    return _Formatted(of, starts, ends, compiled, is_json, code)


def numbers(*, within: Of = "prompt", same: bool = False, of: Of = "completion") -> Filter[Any]:
    """Drop a text with a "number from nowhere": one that the other text does not have.

    Values count, not how they are written (`1,000`, `1000.0`); signs and the numbers of list items do not.

    Args:
        within: The text that must have every number.
        same: Whether the other text may have no further numbers either; if it has, "numbers differ".
        of: Which text is judged; see `Of`.
    """
    checked_of(of, "numbers")
    checked_of(within, "numbers")
    return _Numbers(of, within, same)


@dataclass(frozen=True)
class _Formatted(TextRule):
    starts: str | tuple[str, ...] | None
    ends: str | tuple[str, ...] | None
    pattern: re.Pattern[str] | None
    is_json: bool
    code: bool | str

    def _reason(self, text: str) -> str | None:
        bare = text.strip()
        if self.starts is not None and not bare.startswith(self.starts):
            return "does not start as asked"
        if self.ends is not None and not bare.endswith(self.ends):
            return "does not end as asked"
        if self.pattern is not None and not self.pattern.search(text):
            return "does not match the pattern"
        if self.is_json and not _is_json(bare):
            return "not JSON"
        return self._without_code(text) if self.code else None

    def _without_code(self, text: str) -> str | None:
        closed, left_open = blocks(text)
        if left_open:
            return "code fence left open"
        found = [block for block in closed if self.code is True or block.language == str(self.code).lower()]
        return None if found else "no code fence"


@dataclass(frozen=True)
class _Numbers:
    of: Of
    within: Of
    same: bool

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        for record in records:
            given = {number for text in texts_of(record, self.within, "numbers") for number in _values(text)}
            found = [_values(text) for text in texts_of(record, self.of, "numbers")]
            if any(not values <= given for values in found):
                yield "number from nowhere"
            else:
                yield "numbers differ" if self.same and any(values != given for values in found) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _values(text: str) -> set[str]:
    return {_value(found) for found in _NUMBER.findall(_ITEM.sub("", text))}


def _value(number: str) -> str:
    whole, _, part = number.replace(",", "").partition(".")
    return f"{whole.lstrip('0') or '0'}.{part.rstrip('0')}"

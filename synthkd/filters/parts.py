"""Parts of a record: the only place where filters find the text or the value that they judge.

Invariant: a part that is not there is an error that names what is; no filter judges an empty stand-in.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from synthkd.errors import ConfigError, DataError
from synthkd.record import Prompted, Record

Of = str | Callable[[Any], str | Sequence[str]]
"""Which text of a record a filter judges.

`prompt`: all messages of the prompt; `instruction`: its last user turn; `completion`: all completions that the record
has (of a `Preference` both); `all`: every text of these; or the name of a field or of an entry of `meta` that holds
text or a list of texts; or a function from the record to text or texts.
"""
By = str | Callable[[Any], Any]
"""A value of a record: the name of a field or of an entry of `meta`, or a function from the record."""

T = TypeVar("T")

_INNER_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
_COMPLETIONS = ("completion", "completions", "chosen", "rejected")
_NOT_CONTENT = ("parents", "meta")


@dataclass(frozen=True)
class TextRule(ABC):
    """A filter that judges each text of a record by itself; all of them must pass."""

    of: Of

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        who = _INNER_CAPITAL.sub("_", type(self).__name__.strip("_")).lower()
        for record in records:
            reasons = (self._reason(text) for text in texts_of(record, self.of, who))
            yield next((reason for reason in reasons if reason), None)

    @abstractmethod
    def _reason(self, text: str) -> str | None: ...


def texts_of(record: Record, of: Of, who: str) -> tuple[str, ...]:
    """The texts that `of` names, in the order of the record's fields.

    Args:
        record: Where to look.
        of: See `Of`.
        who: The filter that asks, for the message.

    Raises:
        ConfigError: The record has no such text.
    """
    if callable(of):
        value = of(record)
        if (texts := _texts(value)) is None:
            raise ConfigError(f"the function given to {who}(of=...) returned {value!r}; expected text or texts.")
        return texts
    if isinstance(record, Prompted):
        if of == "prompt":
            return ("\n".join(turn.text for turn in record.messages),)
        if of == "instruction":
            return (record.instruction,)
    if of in ("completion", "all"):
        found = tuple(text for name in _fields_of(record, of) for text in _texts(getattr(record, name)) or ())
        if found:
            return found
    elif of != "prompt" and (texts := _texts(_named(record, of))) is not None:
        return texts
    hint = f" For its prompt: {who}(..., of='prompt')." if isinstance(record, Prompted) else ""
    raise ConfigError(f"{who}() judges the {of} of a record, and {type(record).__name__} has none.{hint}")


def text_of(record: Record, of: Of, who: str) -> str:
    """The same as one text."""
    return "\n".join(texts_of(record, of, who))


def value_of(record: Record, by: By, who: str) -> Any:
    """A field, an entry of `meta`, or what a function says; `None` where it holds nothing.

    Raises:
        DataError: The record has neither a field nor an entry of that name.
    """
    if callable(by):
        return by(record)
    if by not in type(record).model_fields and by not in record.meta:
        raise DataError(
            f"Record {record.id}: {who}() looks for {by!r}, and the record has no such field and no such entry in "
            f"meta. Fields: {', '.join(_own_fields(record))}; in meta: {', '.join(record.meta) or 'nothing'}."
        )
    return _named(record, by)


def checked_of(of: object, who: str) -> None:
    """Refuse what cannot name a text."""
    if not (callable(of) or (isinstance(of, str) and of)):
        raise ConfigError(
            f"{who}(of={of!r}): expected 'prompt', 'instruction', 'completion', 'all', the name of a field or of an "
            "entry of meta, or a function from a record to its text."
        )


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time, taken as they are wanted."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def kind_of(value: object) -> str:
    """What values that count as the same kind have in common, also where they cannot be hashed; 5 and 5.0 do."""
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def name_of(by: object) -> str:
    """What to call a field or function in a reason."""
    return by if isinstance(by, str) else getattr(by, "__name__", type(by).__name__).strip("<>")


def _named(record: Record, name: str) -> Any:
    return getattr(record, name) if name in type(record).model_fields else record.meta.get(name)


def _own_fields(record: Record) -> list[str]:
    return [name for name in type(record).model_fields if name not in _NOT_CONTENT]


def _fields_of(record: Record, of: str) -> list[str]:
    names = ("prompt", "text", *_COMPLETIONS) if of == "all" else _COMPLETIONS
    return [name for name in type(record).model_fields if name in names]


def _texts(value: Any) -> tuple[str, ...] | None:
    """Text, texts, or messages (which are one text) as a tuple; `None` for what is none of them."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence):
        return None
    if value and all(hasattr(turn, "content") for turn in value):
        return ("\n".join(turn.text for turn in value),)
    return tuple(value) if all(isinstance(text, str) for text in value) else None

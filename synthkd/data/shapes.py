"""How raw rows become records: the only place that knows which columns other tools use for what a record holds.

Invariant: a row either becomes a record or is a `DataError` that names the place, the field, what was there and the
cure; no value is made up, and nothing but columns that no field asks for is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Generic, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from synthkd.data.columns import column_of
from synthkd.data.sources import short
from synthkd.data.turns import COLUMNS, IMAGES, Misshapen, is_plain, is_turns, parsed, placed, turns
from synthkd.errors import ConfigError, DataError
from synthkd.record import Conversation, Prompted, Record
from synthkd.text import ADVICE, half_character

R = TypeVar("R", bound=Record)

_MESSAGES = "messages"
_TURNS = {*COLUMNS, "tools"}
_COMMON = {
    "prompt": ("question", "instruction", "input", "query", "problem", "text"),
    "completion": ("response", "answer", "output", "solution", "target"),
    "chosen": ("preferred", "better"),
    "rejected": ("dispreferred", "worse"),
}


@dataclass(frozen=True, slots=True)
class Shape(Generic[R]):
    """A kind of record, and the columns that its fields are read from."""

    kind: type[R]
    columns: Mapping[str, str]
    """Column of a field, where it is not the field's own name; `meta.NAME` puts a column into `meta`."""

    def __post_init__(self) -> None:
        more = [_MESSAGES, IMAGES] if issubclass(self.kind, Prompted) else []
        known = [*self.kind.model_fields, *more, *([IMAGES] if issubclass(self.kind, Conversation) else [])]
        for name in self.columns:
            if name not in known and not name.startswith("meta."):
                close = get_close_matches(name, known, n=1)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                raise ConfigError(
                    f"fields= names {name!r}, which {self.kind.__name__} does not have. {hint}"
                    f"Its fields: {', '.join(known)}. The mapping goes from field to column; 'meta.NAME' fills `meta`."
                )

    def record(self, row: Any, place: str) -> R:
        """The record that a row holds; `place` is what an error calls the row."""
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: expected an object with named columns, found {short(row)}.")
        try:
            values = self._values(row)
        except Misshapen as error:
            raise DataError(f"{place}: {error}") from None
        for name, field in self.kind.model_fields.items():
            if field.is_required() and name not in values:
                raise DataError(self._missing(name, row, place))
        if where := half_character(values):
            raise DataError(f"{place}: {where}, {ADVICE}.")
        try:
            return self.kind.model_validate(values)
        except ValidationError as error:
            raise DataError(self._invalid(error, values, place)) from None

    def _values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in self.kind.model_fields:
            column = self.columns.get(name, name)
            if (own := column_of(self.kind, column)) in row:  # as `row` names a user's field
                column = own
            if column in row:
                value = row[column]
                value = _adapted(self.kind, name, parsed(value) if name in _TURNS else value)
                if value is not None or _admits(self.kind, name, None):
                    values[name] = value
            elif name in self.columns:
                raise Misshapen(self._no_column(name, column, row))
        if issubclass(self.kind, Prompted):
            self._converse(values, row)
            self._illustrate(values, "prompt", row)
        elif issubclass(self.kind, Conversation) and is_turns(values.get(_MESSAGES)):
            values[_MESSAGES] = turns(values[_MESSAGES], _MESSAGES)
            self._illustrate(values, _MESSAGES, row)
        for name, column in self.columns.items():
            if name.startswith("meta."):
                if column not in row:
                    raise Misshapen(self._no_column(name, column, row))
                meta = values.setdefault("meta", {})
                if isinstance(meta, Mapping):  # else validation will say what is wrong with it
                    values["meta"] = {**meta, name.removeprefix("meta."): row[column]}
        return values

    def _converse(self, values: dict[str, Any], row: Mapping[str, Any]) -> None:
        """Fill prompt and completion from whole conversations, and reduce lists of messages to the field's own form."""
        if "prompt" in values:
            values["prompt"] = _prompt(values["prompt"])
        column = self.columns.get(_MESSAGES, _MESSAGES)
        if _MESSAGES in self.columns and column not in row:
            raise Misshapen(self._no_column(_MESSAGES, column, row))
        talk: Any = parsed(row.get(column))
        if "prompt" not in values and is_turns(talk):
            prompt, replies = _split(turns(talk, "messages"), "messages")
            values["prompt"] = _reduced(prompt)
            if "completion" in self.kind.model_fields and "completion" not in values:
                if len(replies) != 1:
                    raise Misshapen(
                        f'"{column}" has {len(replies)} turns after the last user turn; expected one, the completion.'
                    )
                values["completion"] = replies[0]["content"]
        for name in ("completion", "chosen", "rejected"):
            if is_turns(values.get(name)) and not _admits(self.kind, name, values[name]):
                said = turns(values[name], name)
                if said[-1]["role"] != "assistant":
                    raise Misshapen(f'"{name}" ends with a {said[-1]["role"]} turn; expected an assistant turn.')
                before = _reduced(said[:-1])  # TRL's form without a prompt column: conversations begin with the prompt
                if before and values.setdefault("prompt", before) != before:
                    raise Misshapen(f'"{name}" begins with another conversation than the prompt.')
                values[name] = said[-1]["content"]

    def _illustrate(self, values: dict[str, Any], name: str, row: Mapping[str, Any]) -> None:
        """Put the row's pictures into the conversation."""
        column = self.columns.get(IMAGES, IMAGES)
        own = IMAGES in self.kind.model_fields and f"{IMAGES}_" not in row  # then the column is a user's field
        if IMAGES in self.columns and column not in row:
            raise Misshapen(self._no_column(IMAGES, column, row))
        images = None if own and IMAGES not in self.columns else row.get(column)
        said = values.get(name)
        if isinstance(said, str) and images is not None and images != []:
            said = [{"role": "user", "content": said}]
        if isinstance(said, list) and is_turns(said):
            values[name] = placed(said, images)

    def _no_column(self, name: str, column: str, row: Mapping[str, Any]) -> str:
        close = get_close_matches(column, list(row), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"no column {column!r}, from which fields= reads {name!r}. Columns found: {_listed(row)}.{hint}"

    def _missing(self, name: str, row: Mapping[str, Any], place: str) -> str:
        column = self.columns.get(name, name)
        if column in row:
            return f'{place}: "{column}" is empty, and {self.kind.__name__} needs it. Fill it, or leave the row out.'
        free = [c for c in row if c not in self.kind.model_fields]
        usual = [c for c in _COMMON.get(name, ()) if c in free]
        likely = (usual or get_close_matches(name, free, n=1) or ["COLUMN"])[0]
        return (
            f'{place}: no "{name}", which {self.kind.__name__} needs. Columns found: {_listed(row)}. '
            f"If one of them holds it, say so: data.read(..., fields={{{name!r}: {likely!r}}})."
        )

    def _invalid(self, error: ValidationError, values: Mapping[str, Any], place: str) -> str:
        details = error.errors(include_url=False)
        first = details[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        said = "; or: ".join(dict.fromkeys(d["msg"] for d in details if not name or d["loc"][:1] == (name,)))
        if name not in values:
            return f"{place}: not a valid {self.kind.__name__}: {said}. Found {short(dict(values))}. Correct the row."
        column = self.columns.get(name, name)
        return (
            f'{place}: "{column}" is {short(values[name])} ({type(values[name]).__name__}), and the field {name!r} of '
            f"{self.kind.__name__} cannot take it: {said}. Correct the row, or read another column with "
            f"fields={{{name!r}: ...}}."
        )


def _adapted(kind: type[Record], name: str, value: Any) -> Any:
    """JSON text, as CSV and our own Parquet hold nested values, becomes the value where the field takes no text."""
    if isinstance(value, str) and value[:1] in ("[", "{") and not _admits(kind, name, value):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _admits(kind: type[Record], name: str, value: object) -> bool:
    return _takes(kind, name, "none" if value is None else "text" if isinstance(value, str) else "messages")


_PROBES: dict[str, Any] = {"none": None, "text": "[]", "messages": [{"role": "assistant", "content": ""}]}


@lru_cache(maxsize=1024)
def _takes(kind: type[Record], name: str, what: str) -> bool:
    """Whether a field takes `None`, any text, or a list of messages."""
    annotation: Any = kind.model_fields[name].annotation
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        adapter.validate_python(_PROBES[what])
    except ValidationError:
        return False
    return True


def _prompt(prompt: Any) -> Any:
    """A prompt of a single user turn is its text, so that a record keeps its id on the way out and back in."""
    return _reduced(turns(prompt, "prompt")) if is_turns(prompt) else prompt


def _reduced(said: list[dict[str, Any]]) -> Any:
    if len(said) == 1 and said[0]["role"] == "user" and is_plain(said[0]):
        return said[0]["content"]
    return said


def _split(turns: list[dict[str, Any]], column: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation up to its last user turn, and what follows."""
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is None:
        raise Misshapen(f'"{column}" has no user turn; expected a prompt.')
    return turns[: last + 1], turns[last + 1 :]


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "none"

"""What a tool is: the only place where a call's arguments are checked, the tool is called, and its result becomes text.

Invariant: a result is in the journal before a teacher sees it, and a replay calls no tool. Wrong arguments, and what
the tool says of them by a `ValueError`, `LookupError` or `ArithmeticError`, are an outcome that says so; any other
exception is a bug of the tool, or a failure of what stands behind it, and no outcome.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from synthkd.errors import ConfigError
from synthkd.text import storable
from synthkd.tools.course import Course
from synthkd.tools.schemas import checker

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave."""

    text: str
    failed: bool = False
    """Whether it says what went wrong instead."""


class Used(NamedTuple):
    """One call that was made."""

    tool: str
    arguments: str
    """JSON text."""
    outcome: Outcome


@dataclass(frozen=True)
class Tool:
    """Something that a teacher may call, by its name.

    Args:
        name: up to 64 letters, digits, `_` and `-`.
        description: what the teacher reads of it.
        parameters: JSON schema (2020-12) of its arguments, an object.
        call: does it, with the arguments; gives a JSON value, a text, or an `Outcome`.
        check: raises a `ValueError` that says what is wrong with arguments; by default they must satisfy `parameters`.
        stateful: what it gives depends on what was called before for the same record. Then it must belong to that
            record alone (see `Act`), its calls go one after the other, and a replay that goes on from where the journal
            ends makes them anew.

    Raises:
        ConfigError: a name that endpoints refuse, or parameters that are no schema of an object.
        MissingExtra: jsonschema is not installed, and no `check` is given.
    """

    name: str
    description: str
    parameters: Mapping[str, Any] = field(repr=False)
    call: Callable[[dict[str, Any]], Awaitable[Any]] | None = field(default=None, repr=False)
    check: Callable[[Mapping[str, Any]], None] | None = field(default=None, repr=False)
    stateful: bool = False

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ConfigError(
                f"a tool is called {self.name!r}; endpoints take names of 1 to 64 letters, digits, _ and -"
            )
        if self.parameters.get("type") != "object":
            raise ConfigError(
                f"the parameters of tool {self.name!r} are no JSON schema of an object; "
                'expected {"type": "object", "properties": {...}, "required": [...]}'
            )
        if self.check is None:
            object.__setattr__(self, "check", checker(self.parameters, f"tool {self.name!r}"))

    @property
    def schema(self) -> dict[str, JsonValue]:
        """As endpoints and TRL's column `tools` have it."""
        described = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": cast("dict[str, JsonValue]", described)}

    async def use(self, arguments: Mapping[str, Any], course: Course, earlier: Sequence[Used] = ()) -> Outcome:
        """Call it, or give what the journal has.

        Args:
            arguments: as the teacher gave them.
            course: the record's.
            earlier: the calls before this one, for tools that are played.

        Raises:
            RecordError: what stands behind it cannot be reached; nothing is journaled.
        """
        if wrong := self.refusal(arguments):
            return wrong
        text = canonical(arguments)

        async def act() -> JsonValue:
            outcome = await self._outcome(json.loads(text))
            return {"text": outcome.text, "failed": outcome.failed}

        act_on = course.follow if self.stateful else course.do
        found = cast("dict[str, Any]", await act_on(self.name, {"arguments": text}, act))
        return Outcome(found["text"], found["failed"])

    def refusal(self, arguments: Mapping[str, Any]) -> Outcome | None:
        """What is wrong with the arguments, if anything is."""
        assert self.check is not None
        try:
            self.check(arguments)
        except ValueError as error:
            return Outcome(storable(f"Error: {error}"), failed=True)
        return None

    async def _outcome(self, arguments: dict[str, Any]) -> Outcome:
        assert self.call is not None
        try:
            found = await self.call(arguments)
        except (ValueError, LookupError, ArithmeticError) as error:
            return Outcome(storable(f"Error: {type(error).__name__}: {error}"), failed=True)
        return found if isinstance(found, Outcome) else Outcome(self._written(found))

    def _written(self, value: Any) -> str:
        """A result as text. JSON keeps numbers of any size, and what it has no word for, such as NaN."""
        try:
            text = value if isinstance(value, str) else json.dumps(to_jsonable_python(value), ensure_ascii=False)
        except PydanticSerializationError:
            raise ConfigError(
                f"the tool {self.name!r} gave a {type(value).__name__}, which cannot be written as JSON; "
                "let it give text, numbers, lists, dicts, dataclasses or Pydantic models"
            ) from None
        return cast(str, storable(text))


def canonical(arguments: Mapping[str, Any]) -> str:
    """Arguments as JSON text, the same for equal ones. A text, because a key's JSON has no integers past 64 bits."""
    return cast(str, storable(json.dumps(arguments, sort_keys=True, ensure_ascii=False)))

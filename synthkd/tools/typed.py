"""Tools from typed Python functions: the only place that reads a signature and a docstring.

Invariant: a function is called with arguments that satisfy its type hints, or not at all.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from synthkd.errors import ConfigError
from synthkd.request import schema
from synthkd.tools.tool import Tool

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?|Notes?|References?):\s*$", re.M)
_ARGUMENT = re.compile(r"^(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PREFIX = "argument_"
"""Before a field's name, so that a parameter may be called `copy` or `schema`, as Pydantic's own methods are."""


def function(fn: Callable[..., Any], *, stateful: bool = False) -> Tool:
    """A tool from a function, sync or async: its name, type hints and docstring are what the teacher sees.

    What is described under `Args:` in its docstring (Google's style) describes the parameters, as does
    `Annotated[int, Field(description=..., ge=1)]`. A sync function runs in a thread. A `ValueError`, `LookupError` or
    `ArithmeticError` that it raises is told to the teacher; any other exception is a bug and stops the run.

    Args:
        fn: the function; its result is a JSON value, a text, a dataclass or a Pydantic model.
        stateful: see `Tool`.

    Raises:
        ConfigError: a parameter has no type hint or cannot be given by name, or there is no docstring.
    """
    name = getattr(fn, "__name__", "")
    summary, described = _docstring(inspect.getdoc(fn) or "")
    if not summary:
        raise ConfigError(f"the function {name!r} has no docstring: say in it what the tool does, for the teacher")
    model = _model(fn, name, described)

    def check(arguments: Mapping[str, Any]) -> None:
        _validated(model, arguments)

    async def call(arguments: dict[str, Any]) -> Any:
        found = _validated(model, arguments)
        given = {place.removeprefix(_PREFIX): getattr(found, place) for place in found.model_fields_set}
        if inspect.iscoroutinefunction(fn):
            return await fn(**given)
        return await asyncio.to_thread(fn, **given)

    parameters = {"properties": {}, **schema(model)}  # type: ignore[dict-item]
    return Tool(name, summary, parameters, call, check, stateful)


def _model(fn: Callable[..., Any], name: str, described: Mapping[str, str]) -> type[BaseModel]:
    """The arguments as a Pydantic model."""
    try:
        hints = get_type_hints(fn, include_extras=True)
    except NameError as error:
        raise ConfigError(f"the function {name!r} has a type hint that cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    for place, parameter in inspect.signature(fn).parameters.items():
        if parameter.kind not in _NAMED:
            raise ConfigError(f"the function {name!r} takes {parameter}, which cannot be given by name")
        if place not in hints:
            raise ConfigError(f"the parameter {place!r} of {name!r} has no type hint, such as `{place}: str`")
        default = ... if parameter.default is parameter.empty else parameter.default
        # A description of None would hide the one in `Annotated`.
        told: dict[str, Any] = {"description": described[place]} if place in described else {}
        fields[_PREFIX + place] = (hints[place], Field(default, alias=place, **told))
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
        raise ConfigError(f"a type hint of {name!r} cannot be read from JSON: {error.message}") from None


def _validated(model: type[BaseModel], arguments: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        problems = error.errors(include_url=False)[:5]
        raise ValueError("; ".join(_problem(problem) for problem in problems)) from None


def _problem(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{place}: is missing"
    if problem["type"] == "extra_forbidden":
        return f"{place}: there is no such argument"
    return f"{place}: {problem['msg']} (got {str(problem['input'])[:80]!r})"


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the first section, and what is said of each argument."""
    parts = _SECTION.split(text)
    summary = " ".join(parts[0].split())
    described: dict[str, str] = {}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title in ("Args", "Arguments", "Parameters"):
            described |= _arguments(inspect.cleandoc("\n" + body))
    return summary, described


def _arguments(body: str) -> dict[str, str]:
    found: dict[str, str] = {}
    current = ""
    for line in body.splitlines():
        begins = None if line[:1].isspace() else _ARGUMENT.match(line)
        if begins:
            current = begins[1]
            found[current] = begins[2].strip()
        elif current:
            found[current] = f"{found[current]} {line.strip()}".strip()
    return found

"""JSON schemas of arguments: the only place that checks values against them.

Invariant: a schema is never fetched from anywhere, whatever its `$ref` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from synthkd.errors import ConfigError, MissingExtra

_MOST = 5
"""Problems that one message names."""


def checker(schema: Mapping[str, Any], what: str) -> Callable[[Mapping[str, Any]], None]:
    """A function that raises a `ValueError` for a value that does not satisfy the schema.

    Raises:
        ConfigError: it is no JSON schema.
        MissingExtra: jsonschema is not installed.
    """
    try:
        import jsonschema
        import referencing
        import referencing.exceptions
    except ImportError:
        raise MissingExtra("jsonschema", "tools") from None
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(f"{what}: the parameters are no JSON schema: {error.json_path}: {error.message}") from None
    registry: Any = referencing.Registry()
    validator = jsonschema.Draft202012Validator(schema, registry=registry)

    def check(value: Mapping[str, Any]) -> None:
        try:
            problems = sorted(validator.iter_errors(value), key=lambda problem: problem.json_path)
        except referencing.exceptions.Unresolvable as error:
            raise ValueError(f"the schema refers to {error.ref!r}, which is not in it") from None
        if problems:
            raise ValueError("; ".join(f"{_place(p.json_path)}{p.message[:200]}" for p in problems[:_MOST]))

    return check


def _place(path: str) -> str:
    inner = path.removeprefix("$").removeprefix(".")
    return f"{inner}: " if inner else ""

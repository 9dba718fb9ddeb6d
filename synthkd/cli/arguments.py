"""NAME=VALUE on the command line: the only place that takes such texts apart."""

from __future__ import annotations

from collections.abc import Sequence

from synthkd.errors import ConfigError
from synthkd.teachers.endpoint import public_value, without_secrets


def pairs(texts: Sequence[str] | None, option: str, example: str) -> dict[str, str]:
    """Names and values of an option that may be repeated, such as `-v`.

    Raises:
        ConfigError: a text is no NAME=VALUE, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            shown = without_secrets(text)
            raise ConfigError(f"{option} {shown}: expected {option} NAME=VALUE, such as {option} {example}.")
        if name in found:
            shown, before = public_value(name, value), public_value(name, found[name])
            raise ConfigError(f"{option} {name}={shown}: {name!r} is given twice, before as {before!r}. Give it once.")
        found[name] = value
    return found

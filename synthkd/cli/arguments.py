"""NAME=VALUE on the command line: the only place that takes such texts apart."""

from __future__ import annotations

from collections.abc import Sequence

from synthkd.errors import ConfigError


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
            raise ConfigError(f"{option} {text}: expected {option} NAME=VALUE, such as {option} {example}.")
        if name in found:
            raise ConfigError(f"{option} {text}: {name!r} is given twice, before as {found[name]!r}. Give it once.")
        found[name] = value
    return found

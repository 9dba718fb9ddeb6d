"""Text that no file can hold: the only place that finds halves of characters (lone surrogates) and replaces them.

Python lets one half of a surrogate pair stand alone in a text, as `json.loads` gives it for `"\\ud83d"`; UTF-8, and so
JSON and SQLite, does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADVICE = (
    "holds half of a character (a lone surrogate), which no file can hold. Expected Unicode text. Mend it where it is "
    "read: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
)
"""What a message says behind the place."""


def half_character(value: Any, place: str = "") -> str | None:
    """Where in a text, or in the texts of lists and mappings, half a character stands alone: `prompt, character 3`."""
    if isinstance(value, str):
        if value.isascii():
            return None
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"{place or 'the text'}, character {error.start + 1}"
        return None
    if isinstance(value, Mapping):
        items = [(f"{place}.{name}" if place else str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{place}[{number}]", inner) for number, inner in enumerate(value)]
    else:
        return None
    return next((found for where, inner in items if (found := half_character(inner, where))), None)


def storable(value: Any) -> Any:
    """The value with U+FFFD for each half of a character in its texts; two halves that belong together are joined."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {storable(name): storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(storable(inner) for inner in value)
    return value

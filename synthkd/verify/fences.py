"""Fenced code blocks: the only place that reads Markdown's fences.

Invariant: a block that is left open is no block; a text that was cut is never completed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^([ \t]{0,8})(`{3,}|~{3,})([^`\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One closed block of code."""

    language: str
    """In lower case, as the fence names it; empty where it names none."""
    code: str
    """What stands in it, without the indentation of its fence."""


def blocks(text: str) -> tuple[list[Block], bool]:
    """All closed blocks in their order, and whether one is left open at the end."""
    found: list[Block] = []
    fence = language = indent = ""
    begins = 0
    for match in _FENCE.finditer(text):
        mark, info = match[2], match[3].strip()
        if not fence:
            fence, language, indent = mark, info.partition(" ")[0].lower(), match[1]
            begins = match.end() + 1
        elif mark.startswith(fence) and not info:
            code = text[begins : match.start()]
            if indent:
                code = "\n".join(line.removeprefix(indent) for line in code.split("\n"))
            found.append(Block(language, code))
            fence = ""
    return found, bool(fence)

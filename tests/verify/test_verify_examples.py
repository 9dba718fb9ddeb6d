"""The examples of the guide run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from boxes import boxed

PAGE = Path(__file__).parents[2] / "docs" / "operators-verify.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@boxed
@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(1, len(EXAMPLES) + 1)])
def test_an_example_runs(example: str) -> None:
    lines = [line for line in example.splitlines() if line.strip()]
    assert 5 <= len(lines) <= 15
    exec(compile(example, PAGE.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("primitive", ["exec", "verify"])
def test_each_primitive_has_a_heading(primitive: str) -> None:
    assert f"\n## `{primitive}`\n" in PAGE.read_text()

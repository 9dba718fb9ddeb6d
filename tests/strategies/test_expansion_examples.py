"""The examples of the guide run as they stand there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "operators-expansion.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(1, len(EXAMPLES) + 1)])
def test_an_example_runs(example: str) -> None:
    lines = [line for line in example.splitlines() if line.strip()]
    assert 5 <= len(lines) <= 15
    exec(compile(example, PAGE.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("heading", ["`spans`", "`pool`", "Evolving", "Self-Instruct's parts"])
def test_each_part_has_a_heading(heading: str) -> None:
    assert f"\n## {heading}\n" in PAGE.read_text(encoding="utf-8")

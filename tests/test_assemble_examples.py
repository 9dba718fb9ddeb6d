"""The examples of the guide run as they stand there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "operators-assembly.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(1, len(EXAMPLES) + 1)])
def test_an_example_runs(example: str) -> None:
    if "transformers" in example and not find_spec("torch"):
        pytest.skip("needs torch: pip install 'synthkd[train]'")
    lines = [line for line in example.splitlines() if line.strip()]
    assert 5 <= len(lines) <= 15
    exec(compile(example, PAGE.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("primitive", ["pair", "mix", "markup", "weight", "media", "logits", "parse"])
def test_each_primitive_has_a_heading(primitive: str) -> None:
    assert f"\n## `{primitive}`\n" in PAGE.read_text()

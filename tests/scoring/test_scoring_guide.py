"""The examples of the guide to retrieval and scores run as they stand there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "operators-scoring.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(1, len(EXAMPLES) + 1)])
def test_an_example_runs(example: str) -> None:
    if "BM25" in example and not find_spec("bm25s"):
        pytest.skip("needs bm25s: pip install 'synthkd[retrieval]'")
    lines = [line for line in example.splitlines() if line.strip()]
    assert 5 <= len(lines) <= 15
    exec(compile(example, PAGE.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("primitive", ["retrieve", "logprob", "scorer"])
def test_each_primitive_has_a_heading(primitive: str) -> None:
    assert f"\n## `{primitive}`\n" in PAGE.read_text()

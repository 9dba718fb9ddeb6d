"""The page on operators: every primitive has its operator there, and every example runs as it stands."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from synthkd.errors import ConfigError
from synthkd.verify import Sandbox

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"
TEXT = PAGE.read_text()
SECTIONS = {found[1]: found[2] for found in re.finditer(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)}
EXAMPLES = [
    pytest.param(example, id=f"{title.strip('`')}-{number}")
    for title, section in SECTIONS.items()
    for number, example in enumerate(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL), 1)
]
NEEDS = {
    "language": "py3langid",
    "minhash": "rensa",
    "BM25": "bm25s",
    "tools": "jsonschema",
    "transformers": "torch",
    "training": "torch",
    "collators": "torch",
}
PRIMITIVES = [
    "spans",
    "pool",
    "retrieve",
    "media",
    "gen",
    "list",
    "icl",
    "route",
    "sample",
    "ensemble",
    "loop",
    "revise",
    "dialogue",
    "act",
    "judge",
    "swap",
    "logprob",
    "logits",
    "parse",
    "rules",
    "novelty",
    "dedup",
    "verify",
    "exec",
    "scorer",
    "vote",
    "human",
    "pair",
    "mix",
    "markup",
    "weight",
    "student",
    "aux",
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str) -> None:
    for word, package in NEEDS.items():
        if word in example and not find_spec(package):
            pytest.skip(f"needs {package}")
    if "passes(" in example or "prints(" in example or "programs(" in example or "Sandbox(" in example:
        try:
            Sandbox().ready()
        except ConfigError as error:
            pytest.skip(str(error))
    lines = [line for line in example.splitlines() if line.strip()]
    assert 5 <= len(lines) <= 15
    exec(compile(example, PAGE.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_each_primitive_has_its_operator_and_an_example(primitive: str) -> None:
    assert len(PRIMITIVES) == 33
    assert re.search(rf"^\| \w+ \| \[`{primitive}`\]\(#{primitive}\) \| .+ \|$", TEXT, re.MULTILINE)
    assert "```python" in SECTIONS[f"`{primitive}`"]

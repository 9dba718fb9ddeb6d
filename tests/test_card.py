"""The dataset card: what the run knows, as YAML that the Hub reads and prose that people read."""

from __future__ import annotations

import pytest
from huggingface_hub import DatasetCard

from synthkd.card import CardFacts, StageFacts, TeacherFacts, render

FACTS = CardFacts(
    title="evol-math",
    kind="Preference",
    rows=1200,
    description="Harder and harder sums.",
    sources=["seeds.jsonl"],
    stages=[
        StageFacts("evolve", 700, 1250, {"wrong answer": 30, "refused": 120}),
        StageFacts("rank", 1250, 1200),
    ],
    teachers=[
        TeacherFacts("teacher", "openai/gpt-4.1-mini", 5000, 1_200_000, 900_000, {"temperature": 0.7}, 1.92),
        TeacherFacts("judge", "http://localhost:8000/v1 qwen", 1250, 10, 20),
    ],
    prompts={"expansion/evolve@3f2a91c0": ["evolve"], "feedback/rank@77aa00ff": ["rank", "rank-2"]},
    sampling={"rank": {"temperature": 0}},
    versions={"synthkd": "0.1.0", "python": "3.11.8"},
    created="2026-09-01",
    load="me/evol-math",
)


def test_the_metadata_is_what_the_hub_reads() -> None:
    data = DatasetCard(render(FACTS)).data
    assert data.tags == ["synthkd", "synthetic", "distillation"]
    assert data.size_categories == ["1K<n<10K"]
    assert data.pretty_name == "evol-math"


def test_no_licence_is_made_up_and_the_terms_are_left_to_the_user() -> None:
    text = render(FACTS)
    assert DatasetCard(text).data.license is None
    assert "license:" not in text
    assert "No licence has been set" in text
    assert "`openai/gpt-4.1-mini`, `http://localhost:8000/v1 qwen`. Before you use or publish" in text


def test_a_licence_that_the_user_gives_is_stated_as_theirs() -> None:
    text = render(CardFacts("t", "Instruction", 1, licence="cc-by-4.0"))
    assert DatasetCard(text).data.license == "cc-by-4.0"
    assert "The publisher gives this dataset the licence `cc-by-4.0`" in text


@pytest.mark.parametrize(
    "line",
    [
        "1,200 rows of the kind `Preference`, made on 2026-09-01",
        "It began with: `seeds.jsonl`.",
        "| evolve | 700 | 1,250 | refused: 120; wrong answer: 30 |",
        "| rank | 1,250 | 1,200 | none |",
        "| teacher | openai/gpt-4.1-mini | 5,000 |",
        "- `feedback/rank@77aa00ff` in rank, rank-2",
        '- teacher (default): `{"temperature":0.7}`',
        '- rank: `{"temperature":0}`',
        "| teacher | 1,200,000 | 900,000 | 1.9200 USD |",
        "| judge | 10 | 20 | unknown |",
        "| all | 1,200,010 | 900,020 | unknown |",
        'dataset = load_dataset("me/evol-math", split="train")',
        "- synthkd 0.1.0",
    ],
)
def test_it_states_what_the_run_knows(line: str) -> None:
    assert line in render(FACTS)


def test_a_card_of_a_run_that_asked_nobody_has_no_empty_sections() -> None:
    text = render(CardFacts("plain", "Instruction", 3))
    assert "No teacher was asked." in text
    assert "## Stages" not in text
    assert "## Tokens" not in text


def test_names_from_outside_cannot_break_the_card() -> None:
    stages = [StageFacts("a|b\n## c", 1, 0, {"<script>": 1})]
    text = render(CardFacts("t: [x]\n---\n# y", "Instruction", 1, stages=stages))
    assert "| a\\|b ## c | 1 | 0 | &lt;script>: 1 |" in text
    assert DatasetCard(text).data.pretty_name == "t: [x]\n---\n# y"


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**12, "1B<n<10B")],
)
def test_the_size_category_is_the_hubs(rows: int, category: str) -> None:
    assert DatasetCard(render(CardFacts("t", "Instruction", rows))).data.size_categories == [category]

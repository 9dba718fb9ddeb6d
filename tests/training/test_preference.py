"""Preference training with the real TRL on a small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_tokenizer
from trained import trainer_of

from synthkd import training
from synthkd.errors import ConfigError
from synthkd.record import Preference

pytestmark = pytest.mark.train


def test_chosen_and_rejected_follow_the_same_prompt(
    pairs: list[Preference], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(monkeypatch, "dpo", pairs, student, tmp_path / "out", batch_size=4)
    tokenizer = make_tokenizer()
    for row, pair in zip(trainer.train_dataset, pairs, strict=True):
        assert tokenizer.decode(row["prompt_ids"]) == f"<|user|>{pair.prompt}<|end|><|assistant|>"
        assert tokenizer.decode(row["chosen_ids"]) == f"{pair.chosen}<|end|>"
        assert tokenizer.decode(row["rejected_ids"]) == f"{pair.rejected}<|end|>"
    batch = next(iter(trainer.get_train_dataloader()))
    both = zip(batch["input_ids"], batch["completion_mask"], strict=True)
    prompts = [ids[: int(mask.argmax())].tolist() for ids, mask in both]
    assert prompts[:4] == prompts[4:]


@pytest.mark.parametrize("lora", [None, 8])
def test_a_student_learns_to_prefer_what_was_chosen(
    lora: int | None, pairs: list[Preference], student: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 8, "learning_rate": 2e-3, "beta": 0.3, "lora": lora, "quiet": True}
    found = json.loads((training.dpo(pairs, student, tmp_path / "out", **options) / "training.json").read_text())
    assert found["method"] == "dpo"
    assert found["settings"]["beta"] == 0.3
    assert found["steps"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # it starts as its own reference
    assert found["steps"][-1]["rewards/margins"] > 0.5
    assert found["steps"][-1]["rewards/accuracies"] == 1.0


def test_a_caller_s_own_model_is_its_own_reference(pairs: list[Preference], tmp_path: Path) -> None:
    from tiny_models import make_model

    own = (make_model(seed=5), make_tokenizer())
    out = training.dpo(pairs, own, tmp_path / "out", max_steps=2, learning_rate=1e-3, quiet=True)
    assert json.loads((out / "training.json").read_text())["steps"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_beta_must_be_positive(pairs: list[Preference], student: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="beta=0"):
        training.dpo(pairs, student, tmp_path / "out", beta=0)

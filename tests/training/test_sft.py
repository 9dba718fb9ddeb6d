"""Supervised fine-tuning with the real TRL on a small model."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from tiny_models import TEMPLATE, make_model, make_tokenizer, save_model
from trained import trainer_of

from synthkd import training
from synthkd.errors import ConfigError, DataError
from synthkd.message import Message
from synthkd.record import Demonstration
from synthkd.request import Request, Sampling
from synthkd.teachers import LocalTeacher

pytestmark = pytest.mark.train


def answers(folder: Path, texts: list[str]) -> list[tuple[str, str | None]]:
    """What a student says, greedily, and how each reply ended."""
    teacher = LocalTeacher(folder)

    async def whole() -> list[tuple[str, str | None]]:
        asked = [Request((Message("user", t),), str, Sampling(temperature=0, max_tokens=30)) for t in texts]
        found = await asyncio.gather(*(teacher.generate(request) for request in asked))
        await teacher.aclose()
        return [(c.text, c.finish_reason) for [c] in found]

    return asyncio.run(whole())


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


def test_the_loss_is_on_the_completion_and_its_end_token_alone(
    told: list[Demonstration], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(monkeypatch, "sft", told, student, tmp_path / "out")
    tokenizer = make_tokenizer()
    assert len(trainer.train_dataset) == len(told)
    for row, record in zip(trainer.train_dataset, told, strict=True):
        assert tokenizer.decode(row["input_ids"]) == (
            f"<|user|>{record.prompt}<|end|><|assistant|>{record.completion}<|end|>"
        )
        trained = [label for label in row["labels"] if label != -100]
        assert tokenizer.decode(trained) == f"{record.completion}<|end|>"
        assert row["labels"][-len(trained) :] == row["input_ids"][-len(trained) :]
    batch = next(iter(trainer.get_train_dataloader()))
    assert set(batch) == {"input_ids", "labels", "attention_mask"}
    assert bool((batch["labels"][batch["attention_mask"] == 0] == -100).all())


def test_only_the_last_turn_of_a_conversation_is_learned(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = (Message("system", "Be kind"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    talk = [Demonstration(prompt=turns, completion="d")]
    [row] = trainer_of(monkeypatch, "sft", talk, student, tmp_path / "out").train_dataset
    assert make_tokenizer().decode([label for label in row["labels"] if label != -100]) == "d<|end|>"


def test_a_student_learns_what_it_is_told_and_stops_by_itself(student: Path, tmp_path: Path) -> None:
    told = [Demonstration(prompt=p, completion=c) for p, c in (("Tom", "Yes."), ("France?", "Paris."), ("3 + 4", "7"))]
    before = LocalTeacher(student).identity
    out = training.sft(told, student, tmp_path / "out", epochs=60, learning_rate=5e-3, quiet=True)
    assert answers(out, [r.instruction for r in told]) == [(r.completion, "stop") for r in told]
    assert LocalTeacher(out).identity != before
    found = report(out)
    assert found["rows"] == 3
    assert found["settings"]["learning_rate"] == 5e-3
    assert [step["step"] for step in found["steps"]] == list(range(1, 61))
    assert found["steps"][-1]["loss"] < 0.2 < found["steps"][0]["loss"]
    assert found["versions"]["trl"]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_same_seed_gives_the_same_student(told: list[Demonstration], student: Path, tmp_path: Path) -> None:
    made = [
        training.sft(
            told, student, tmp_path / name, max_steps=3, batch_size=2, learning_rate=1e-3, seed=seed, quiet=True
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (LocalTeacher(folder).identity for folder in made)
    assert first == again != other


def test_adapters_are_merged_so_that_the_student_needs_no_peft(
    told: list[Demonstration], student: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    out = training.sft(told, student, tmp_path / "out", lora=4, max_steps=4, learning_rate=1e-2, quiet=True)
    before, after = load_file(student / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("q_proj" in name for name in changed)
    assert not any("norm" in name or "embed" in name for name in changed)
    assert answers(out, ["1 and 1?"])


def test_a_row_that_weighs_nothing_is_not_learned_and_the_others_are(student: Path, tmp_path: Path) -> None:
    told = [
        Demonstration(prompt="Tom?", completion="Yes.", weight=0.5),
        Demonstration(prompt="Ann?", completion="apples.", weight=0.0),
    ]
    out = training.sft(told, student, tmp_path / "out", epochs=60, learning_rate=5e-3, quiet=True)
    assert answers(out, ["Tom?", "Ann?"]) == [("Yes.", "stop"), ("Yes.", "stop")]


def test_equal_weights_train_as_no_weights_do(told: list[Demonstration], student: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    almost = [r.model_copy(update={"weight": 0.5 + 1e-9 * k}) for k, r in enumerate(told)]
    options: dict[str, Any] = {"max_steps": 4, "batch_size": 3, "accumulate": 2, "learning_rate": 1e-3, "quiet": True}
    plain = load_file(training.sft(told, student, tmp_path / "a", **options) / "model.safetensors")
    weighted = load_file(training.sft(almost, student, tmp_path / "b", **options) / "model.safetensors")
    assert plain.keys() == weighted.keys()
    for name, values in plain.items():
        torch.testing.assert_close(weighted[name], values, atol=1e-4, rtol=1e-3)


def test_a_model_and_tokenizer_of_the_caller_are_trained_as_they_are(told: list[Demonstration], tmp_path: Path) -> None:
    model = make_model(seed=3)
    before = model.model.layers[0].self_attn.q_proj.weight.clone()
    out = training.sft(told, (model, make_tokenizer()), tmp_path / "out", max_steps=2, learning_rate=1e-3, quiet=True)
    assert not bool((model.model.layers[0].self_attn.q_proj.weight == before).all())
    assert report(out)["student"] == "LlamaForCausalLM"
    assert answers(out, ["1 and 1?"])


def test_nothing_leaves_the_machine_and_nothing_is_printed(
    told: list[Demonstration], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("training opened a connection")

    import trl.trainer.base_trainer

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", refuse)
    monkeypatch.delenv("CI", raising=False)
    training.sft(told, student, tmp_path / "out", max_steps=2, quiet=True)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_progress_is_a_line_now_and_then(told: list[Demonstration], student: Path, tmp_path: Path, capfd: Any) -> None:
    long = [*told, Demonstration(prompt="Hello", completion="well " * 300)]
    training.sft(long, student, tmp_path / "small-one", epochs=20, batch_size=8, max_length=100)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "sft small-one | 1 of 9 rows are longer than max_length and are left out"
    assert lines[-1].startswith("sft small-one | step 20/20  loss ")
    assert 8 <= len(lines) <= 13


def test_a_base_model_gets_a_plain_template_and_its_end_token_stops_it(tmp_path: Path) -> None:
    told = [Demonstration(prompt=p, completion=c) for p, c in (("Tom", "Yes."), ("France?", "Paris."))]
    base = save_model(tmp_path / "base", template=None, initializer_range=0.02)
    out = training.sft(told, base, tmp_path / "out", epochs=60, learning_rate=5e-3, quiet=True)
    assert answers(out, ["Tom", "France?"]) == [("Yes.", "stop"), ("Paris.", "stop")]
    assert "### Assistant:" in (out / "chat_template.jinja").read_text()


def test_the_end_of_the_assistants_turn_becomes_a_stop_token_of_the_student(
    told: list[Demonstration], tmp_path: Path
) -> None:
    base = save_model(tmp_path / "base", initializer_range=0.02, eos_token_id=1)
    tokenizer = make_tokenizer()
    tokenizer.eos_token = "<|system|>"  # as base models know an end of text only, and their template an end of turn
    tokenizer.save_pretrained(base)
    out = training.sft(told, base, tmp_path / "out", max_steps=1, quiet=True)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [4, 1]
    assert json.loads((out / "tokenizer_config.json").read_text())["eos_token"] == "<|end|>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chat_template": TEMPLATE.replace("<|end|>", "")}, "never learn to stop"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: expected more than 0"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        ({"lora": 0}, "lora=0"),
        ({"trl": {"learning_rat": 1}}, "SFTConfig refuses its arguments"),
        ({"epochs": 0}, "epochs=0: expected more than 0"),
    ],
)
def test_wrong_arguments_are_heard_before_training(
    options: dict[str, Any], message: str, told: list[Demonstration], student: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        training.sft(told, student, tmp_path / "out", quiet=True, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_is_not_there_is_named(told: list[Demonstration], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the student .*nowhere does not exist"):
        training.sft(told, tmp_path / "nowhere", tmp_path / "out", quiet=True)


def test_only_what_training_made_is_replaced(told: list[Demonstration], student: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not made by training and is left alone"):
        training.sft(told, student, mine, quiet=True)
    assert (mine / "thesis.txt").read_text() == "precious"
    out = training.sft(told, student, tmp_path / "out", max_steps=1, quiet=True)
    first = LocalTeacher(out).identity
    assert training.sft(told, out, out, max_steps=2, learning_rate=1e-2, quiet=True) == out
    assert LocalTeacher(out).identity != first


def test_a_training_that_fails_leaves_the_student_of_before(
    told: list[Demonstration], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(student, tmp_path / "out"))
    (out / "training.json").write_text("{}")
    before = LocalTeacher(out).identity
    trainer_of(monkeypatch, "sft", told, student, out)
    with pytest.raises(DataError):
        training.sft(told, student, out, max_length=2, quiet=True)
    assert LocalTeacher(out).identity == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

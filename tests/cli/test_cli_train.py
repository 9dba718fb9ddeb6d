"""`synthkd train`: from the command line to a student."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from commandline import cli

from synthkd import Demonstration, training
from synthkd.data import row, write


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_what_the_command_line_says_reaches_the_training_function(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def trained(*where: object, **options: object) -> Path:
        seen.update(options, where=where)
        return Path("out")

    monkeypatch.setattr(training, method, trained)
    flags = "--epochs 0.5 --max-steps 7 --lr 1e-3 --batch-size 4 --accumulate 2 --max-length 99 --lora 8 --seed 3"
    own = ["--beta", "0.2"] if method == "dpo" else []
    result = cli("train", method, "data", "--student", "org/model", "--out", "out", *flags.split(), *own)
    assert result.exit_code == 0, result.output
    assert seen.pop("where") == (Path("data"), "org/model", Path("out"))
    assert seen == {
        "epochs": 0.5,
        "max_steps": 7,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "accumulate": 2,
        "max_length": 99,
        "lora": 8,
        "seed": 3,
        "quiet": False,
        **({"beta": 0.2} if own else {}),
    }
    assert "local:out" in result.stdout
    seen.clear()
    assert cli("train", method, "data", "--student", "m", "--out", "out", "--quiet").output == ""
    assert set(seen) == {"where", "quiet"}


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_defaults_in_the_help_are_those_of_the_training_function(method: str) -> None:
    text = " ".join(cli("train", method, "--help").stdout.split())
    parameters = inspect.signature(getattr(training, method)).parameters
    found = dict(re.findall(r"--([\w-]+) [A-Z]+ (?:(?!--)[^\[])*\[default: ([\d.]+)\]", text))
    assert {"epochs", "batch-size", "accumulate", "max-length", "seed"} <= found.keys()
    for name, default in found.items():
        assert parameters[name.replace("-", "_")].default == float(default), name


def test_a_dataset_that_is_not_there_is_a_sentence() -> None:
    result = cli("train", "sft", "nowhere", "--student", "m", "--out", "out")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_left_out_is_an_error_that_names_it() -> None:
    result = cli("train", "sft", "data", "--out", "out")
    assert result.exit_code == 2
    assert "--student" in result.stderr


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.parametrize(
    "student", ["students/missing", "./missing", "../a/b/c", "/nowhere/student", "a file", "empty"]
)
def test_a_student_that_is_not_there_is_a_sentence_and_no_question_to_the_hub(method: str, student: str) -> None:
    Path("students").mkdir()
    Path("empty").mkdir()
    Path("a file").write_text("x")
    write([row(Demonstration(prompt="a", completion="b"))], "told", "# told")
    result = cli("train", method, "told", "--student", student, "--out", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"the student {student} " in result.stderr
    assert "Expected" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not any(word in result.stderr for word in ("Traceback", "huggingface.co", "repo_id"))
    assert not Path("out").exists()


@pytest.mark.train
def test_a_student_is_trained_from_the_command_line() -> None:
    from tiny_models import save_model

    save_model(Path("small"))
    told = [Demonstration(prompt=f"What is {i} + 1?", completion=f"The answer is {i + 1}.") for i in range(4)]
    write([row(record) for record in told], "told", "# told")
    options = ("--student", "small", "--max-steps", "1", "--batch-size", "2", "--max-length", "64", "--quiet")
    result = cli("train", "sft", "told", "--out", "student", *options)
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads(Path("student/training.json").read_text())["method"] == "sft"

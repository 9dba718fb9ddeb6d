"""The pipelines that people copy, run as people run them, on the tiny teacher."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from synthkd.teachers.tiny.problems import generate

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.train


def synthkd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "synthkd.cli", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_quickstart_goes_from_problems_to_a_measured_student(tmp_path: Path) -> None:
    small = ("problems=12", "epochs=1", "held_out=10", "n=2", "preferences=0")
    options = [word for option in small for word in ("-p", option)]
    done = synthkd("run", str(ROOT / "pipelines/quickstart.py"), "--out", "out", *options, cwd=tmp_path)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary.keys() == {"teacher", "student_before", "student_after", "seconds"}
    assert summary["teacher"] >= 0.7
    assert summary["student_before"] <= 0.3
    assert "accuracy" in done.stdout
    assert (tmp_path / "out/student/model.safetensors").is_file()


def test_labelled_math_keeps_only_what_agrees_with_the_gold_and_says_why_the_rest_went(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.jsonl"
    rows = [{"question": p.question, "answer": f"{p.solution}\n#### {p.answer}"} for p in generate(12, 7, "test")]
    rows[0]["answer"] = "#### -1"
    seeds.write_text("\n".join(json.dumps(row) for row in rows))
    synthkd("run", str(ROOT / "pipelines/label_math.py"), "--seeds", str(seeds), "--out", "out", cwd=tmp_path)
    stages = {stage["name"]: stage for stage in json.loads((tmp_path / "out/report.json").read_text())["stages"]}
    kept, rejected = stages["verify"]["records_out"], stages["verify"]["rejected"]
    assert stages["rationale"]["records_in"] == 12
    assert kept + sum(rejected.values()) == stages["rationale"]["records_out"]
    assert rejected["wrong answer"] >= 1
    saved = datasets.load_dataset(str(tmp_path / "out/dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(saved) == kept >= 6
    assert all(len(row["completion"][0]["content"].split()) > 5 for row in saved), "the steps are learnt"

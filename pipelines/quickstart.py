"""The whole way once, without a key, a GPU or a download: seeds, teacher, dataset, student, and its accuracy.

A tiny teacher that ships with synthkd answers grade-school word problems several times each. The answer on which most
of its draws agree becomes a demonstration, the demonstrations become a dataset, TRL trains a smaller student on it, and
the student is measured beside its teacher on problems that neither has seen. With `-p preferences=300` the teacher then
judges what the student writes, and a second pass (DPO) is kept if it helps.

    make demo
    synthkd run pipelines/quickstart.py -p problems=300 -p epochs=2
"""

import time
from pathlib import Path
from typing import Literal

import orjson
from rich.console import Console

from synthkd import Instruction, Run, Sampling, Teacher, training
from synthkd.evaluation import Accuracy, accuracy, table
from synthkd.strategies import Rank, Sample, SelfConsistency
from synthkd.teachers import LocalTeacher
from synthkd.teachers.tiny import BASE_STUDENT
from synthkd.teachers.tiny.problems import generate

ROLES = {"teacher": "tiny"}


class Problem(Instruction):
    """A word problem with its gold answer, which only the measuring looks at."""

    gold: str


def pipeline(
    run: Run,
    problems: int = 5000,
    n: int = 3,
    epochs: float = 5.0,
    held_out: int = 200,
    preferences: int = 0,
) -> None:
    """Distil the teacher into a smaller student and measure both.

    Args:
        problems: how many the teacher answers.
        n: draws for each of them.
        epochs: passes of the student over what survives.
        held_out: problems that are measured on.
        preferences: problems for a second pass, DPO on the teacher's verdicts; 0 leaves it out.
    """
    began = time.monotonic()
    seeds, test = _problems(problems, "train", 11), _problems(held_out, "test", 12)

    answers = run.map(Sample(n, sampling=Sampling(temperature=0.7)), seeds)
    agreed = run.map(SelfConsistency(least=0.5), answers)
    dataset = run.save(agreed)
    student = training.sft(
        dataset,
        BASE_STUDENT,
        run.folder / "student",
        epochs=epochs,
        learning_rate=3e-3,
        batch_size=16,
        max_length=256,
        quiet=run.quiet,
    )
    models: dict[str, Teacher] = {
        "teacher": run.roles["teacher"],
        "student before": LocalTeacher(BASE_STUDENT),
        "student after": LocalTeacher(student),
    }
    measured = accuracy(run, test, models, gold="gold")
    if preferences:
        better, after = _second_pass(run, student, _problems(preferences, "train", 13), test)
        measured[after.name] = after
        if after.correct > measured["student after"].correct:
            student = better
    _show(run, measured, time.monotonic() - began, {"dataset": dataset, "student": student})


def _problems(n: int, split: Literal["train", "test"], seed: int) -> list[Problem]:
    return [Problem(prompt=p.question, gold=str(p.answer)) for p in generate(n, seed, split)]


def _second_pass(run: Run, student: Path, seeds: list[Problem], test: list[Problem]) -> tuple[Path, Accuracy]:
    """The student answers, the teacher judges, DPO learns from the pairs."""
    own = run.map(
        Sample(4, sampling=Sampling(temperature=0.7)), seeds, name="student's answers", teacher=LocalTeacher(student)
    )
    pairs = run.map(Rank(), own)
    dataset = run.save(pairs, run.folder / "preferences")
    better = training.dpo(
        dataset,
        student,
        run.folder / "student-dpo",
        epochs=1,
        learning_rate=5e-5,
        batch_size=16,
        max_length=256,
        quiet=run.quiet,
    )
    [after] = accuracy(run, test, {"student after DPO": LocalTeacher(better)}, gold="gold").values()
    return better, after


def _show(run: Run, measured: dict[str, Accuracy], seconds: float, made: dict[str, Path]) -> None:
    """A short table, and where everything is."""
    summary = {
        "teacher": measured["teacher"].share,
        "student_before": measured["student before"].share,
        "student_after": max(one.share for name, one in measured.items() if name.startswith("student after")),
        "seconds": round(seconds, 1),
    }
    (run.folder / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    console = Console()
    console.print(table(measured))
    share = summary["student_after"] / max(summary["teacher"], 1e-9)
    console.print(f"The student reaches {share:.0%} of its teacher's accuracy after {seconds:.0f} s.")
    for name, path in {**made, "summary": run.folder / "summary.json", "everything": run.folder}.items():
        console.print(f"  {name:<10} {path}")

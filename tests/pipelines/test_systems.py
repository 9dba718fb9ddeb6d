"""The six systems that prove the operators: from seeds to a dataset that its trainer takes, on public fakes.

Those marked vllm ask a real server with guided decoding instead. SYNTHKD_DATA names a folder with the published seeds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from vllm_server import MARKS, serving

from synthkd import training
from synthkd.errors import DataError
from synthkd.report import read_report
from synthkd.request import Completion, Request, Teacher
from synthkd.run import Run
from synthkd.strategies.curation.code import Problem
from synthkd.teachers import OpenAITeacher
from synthkd.testing import SchemaTeacher

ROOT = Path(__file__).parents[2]
Start = Callable[..., "Pipeline"]


class Pipeline:
    """A pipeline's file on one teacher, run as often as asked on one folder."""

    def __init__(self, name: str, folder: Path, teacher: Callable[[], Teacher]) -> None:
        self.folder = folder / name
        self.calls = 0
        self._whole = run_path(str(ROOT / "pipelines" / f"{name}.py"))["pipeline"]
        self._teacher = teacher

    def __call__(self, **options: Any) -> None:
        teacher = self._teacher()
        with Run(self.folder, teacher=teacher, student=teacher, quiet=True) as run:
            self._whole(run, **options)
            self.calls = run.counters.calls

    def stages(self) -> dict[str, Any]:
        return {stage.name: stage for stage in read_report(self.folder).stages}

    def dataset(self, name: str = "dataset") -> Dataset:
        return load_dataset(str(self.folder / name), split="train", cache_dir=str(self.folder / "cache"))


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def pipeline(name: str, answers: dict[Any, Any] | None = None) -> Pipeline:
        return Pipeline(name, tmp_path, lambda: SchemaTeacher(answers))

    return pipeline


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


TASKS = [{"instruction": f"Explain number {n} of the rules for {what}."} for n in range(8) for what in ("bees", "tax")]
QUESTIONS = [{"question": f"What is {n} + {n}?", "answer": f"They add up.\n#### {2 * n}"} for n in range(1, 13)]
PROMPTS = [{"prompt": f"Tell me how to open lock {n}."} for n in range(6)]
CODE = [{"text": "\n".join(f"line_{n} = {n * k}" for n in range(40)), "source": f"{k}.py"} for k in range(1, 9)]


def replays(pipeline: Pipeline, **options: Any) -> None:
    """The same program on the same folder asks nothing and says the same of itself."""
    before = {name: str(stage.rejected) for name, stage in pipeline.stages().items()}
    pipeline(**options)
    assert pipeline.calls == 0
    assert {name: str(stage.rejected) for name, stage in pipeline.stages().items()} == before


def test_self_instruct_grows_instructions_and_their_instances(start: Start, tmp_path: Path) -> None:
    options = {"seeds": written(tmp_path / "seeds.jsonl", TASKS), "until": 40}
    pipeline = start("self_instruct")
    pipeline(**options)
    stages = pipeline.stages()
    assert stages["selfinstruct"].records_out == 40
    assert stages["selfinstruct"].records_in == stages["selfinstruct-drawn"].records_out
    rows = pipeline.dataset()
    assert len(rows) >= 20
    assert rows.column_names[:2] == ["prompt", "completion"]
    replays(pipeline, **options)


def test_wizardlm_joins_the_first_instructions_with_those_of_all_rounds(start: Start, tmp_path: Path) -> None:
    options = {"seeds": written(tmp_path / "seeds.jsonl", TASKS), "rounds": 3}
    pipeline = start("wizardlm")
    pipeline(**options)
    evolved = pipeline.stages()["evolve"].records_out
    rows = pipeline.dataset()
    assert len(TASKS) < len(rows) == len(TASKS) + evolved
    assert {json.loads(row["meta"])["mixture"] for row in rows} == {"original", "evolved"}
    replays(pipeline, **options)


@pytest.mark.parametrize("how", ["best_random", "best_worst", "all"])
def test_ultrafeedback_makes_pairs_of_joint_scores(start: Start, tmp_path: Path, how: str) -> None:
    options = {"seeds": written(tmp_path / "seeds.jsonl", PROMPTS), "how": how}
    pipeline = start("ultrafeedback")
    pipeline(**options)
    rows = pipeline.dataset()
    assert len(rows) >= 4
    assert all(row["score_chosen"] > row["score_rejected"] for row in rows)
    assert all([turn["role"] for turn in row["prompt"]] == ["user"] for row in rows), "no principle in the prompt"
    replays(pipeline, **options)


def test_star_keeps_right_rationales_and_rationalises_the_others(start: Start, tmp_path: Path) -> None:
    def reason(request: Request[Any]) -> str:
        number = int(re.findall(r"What is (\d+)", request.messages[-1].text)[-1])
        hint = re.search(r"correct final answer is (\d+)", " ".join(turn.text for turn in request.messages))
        if number == 12:
            return "I do not know. The answer is 0."
        said = 2 * number if number % 2 else int(hint[1]) if hint else 1
        return f"{number} and {number} together. The answer is {said}."

    options = {"seeds": written(tmp_path / "seeds.jsonl", QUESTIONS)}
    pipeline = start("star", {"labeling/answer": reason})
    pipeline(**options)
    assert pipeline.stages()["round-1"].rejected == {"wrong answer": 1}
    rows = pipeline.dataset("round-1")
    assert len(rows) == 11
    hinted = [row for row in rows if row["privileged_context"]]
    assert len(hinted) == 5
    assert all("correct final answer" not in json.dumps([row["prompt"], row["completion"]]) for row in rows)
    replays(pipeline, **options)


def test_magicoder_turns_snippets_into_problems_and_drops_what_is_broken(start: Start, tmp_path: Path) -> None:
    def solved(request: Request[Any]) -> Problem:
        lines = re.findall(r"line_\d+ = \d+", request.messages[-1].text)
        fence = "```python\n" if "= 4\n" in "\n".join(lines) + "\n" else "```python\nprint(1)\n```"
        return Problem(problem=f"Set {len(lines)}: {lines[0]}", solution=f"So: {lines}\n{fence}")

    options = {"seeds": written(tmp_path / "code.jsonl", CODE), "each": 4}
    pipeline = start("magicoder", {Problem: solved})
    pipeline(**options)
    stages = pipeline.stages()
    assert stages["fromcode"].records_in == 32
    [(kept, rejected)] = [(s.records_out, s.rejected) for name, s in stages.items() if name != "fromcode"]
    assert kept + sum(rejected.values()) == 32
    assert "code fence left open" in rejected
    assert len(pipeline.dataset()) == kept
    replays(pipeline, **options)


@pytest.mark.parametrize("soft", [True, False])
def test_constitutional_ai_revises_by_principles_and_chooses_by_them(start: Start, tmp_path: Path, soft: bool) -> None:
    def letter(request: Request[Any]) -> Completion:
        first, second = re.findall(r"\[Response \w\]\n(.*)", request.messages[-1].text)
        likely, other = ("A", "B") if first < second else ("B", "A")
        told = [{"token": likely, "logprob": -0.2}, {"token": other, "logprob": -1.7}]
        return Completion(likely, logprobs=({**told[0], "top_logprobs": told},), finish_reason="stop")

    options = {"prompts": written(tmp_path / "red.jsonl", PROMPTS), "soft": soft}
    pipeline = start("constitutional_ai", {"feedback/choose": letter} if soft else None)
    pipeline(**options)
    revised = pipeline.dataset("revisions")
    assert len(revised) == 6
    assert all(len(json.loads(row["meta"])["principles"]) == 4 for row in revised)
    chosen = pipeline.dataset("preferences")
    assert all(row["score_chosen"] > row["score_rejected"] for row in chosen)
    assert len(chosen) == 6 if soft else chosen
    replays(pipeline, **options)


@pytest.mark.train
def test_trainers_take_what_the_systems_make(start: Start, tmp_path: Path) -> None:
    from tiny_models import save_model

    student = save_model(tmp_path / "small", initializer_range=0.02)
    wizard, zephyr = start("wizardlm"), start("ultrafeedback")
    wizard(seeds=written(tmp_path / "tasks.jsonl", TASKS), rounds=1)
    zephyr(seeds=written(tmp_path / "prompts.jsonl", PROMPTS))
    for train, pipeline in ((training.sft, wizard), (training.dpo, zephyr)):
        out = tmp_path / f"{pipeline.folder.name}-student"
        train(pipeline.folder / "dataset", student, out, max_steps=1, quiet=True)
        assert (out / "model.safetensors").is_file()


def test_self_instruct_on_the_published_seeds(start: Start) -> None:
    folder = os.environ.get("SYNTHKD_DATA")
    if not folder:
        pytest.skip("SYNTHKD_DATA does not name a folder with the published data sets")
    pipeline = start("self_instruct")
    pipeline(seeds=Path(folder) / "self_instruct_seed_tasks.jsonl", until=500)
    assert pipeline.stages()["selfinstruct"].records_out == 500
    assert len(pipeline.dataset()) > 500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("vllm")) as url:
        yield url


@pytest.mark.vllm
@MARKS[1]
@pytest.mark.parametrize(
    ("name", "rows", "options"),
    [
        ("self_instruct", TASKS, {"until": 4, "at_a_time": 8, "max_tokens": 400}),
        ("wizardlm", TASKS[:4], {"rounds": 1, "max_tokens": 60}),
        ("ultrafeedback", PROMPTS[:3], {"k": 2, "max_tokens": 60}),
        ("star", QUESTIONS, {"max_tokens": 150}),
        ("magicoder", CODE[:4], {"max_tokens": 300}),
        ("constitutional_ai", PROMPTS[:3], {"rounds": 1, "max_tokens": 60}),
    ],
)
def test_a_system_runs_against_vllm_and_every_ledger_adds_up(
    server: str, tmp_path: Path, name: str, rows: Any, options: dict[str, Any]
) -> None:
    """The tiny model knows little of these prompts, so nothing is said of how much is left."""
    seeds = written(tmp_path / "rows.jsonl", rows)
    given = {"prompts" if name == "constitutional_ai" else "seeds": seeds, **options}
    pipeline = Pipeline(name, tmp_path, lambda: OpenAITeacher("tiny", base_url=server))
    with suppress(DataError):  # nothing is left to save
        pipeline(**given)
    stages = pipeline.stages()
    assert stages
    for stage in stages.values():
        assert stage.records_in >= sum(stage.rejected.values())

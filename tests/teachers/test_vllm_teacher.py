"""The vLLM teacher: its server's life from the first call to the driver's end, on a server that only looks like vLLM.

The real one is in test_vllm.py (marker vllm).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthkd.errors import ConfigError, TeacherUnavailable
from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import VLLMTeacher, teacher_from

PRETEND = Path(__file__).parent / "pretend"
Make = Callable[..., VLLMTeacher]

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PRETEND_MARK", str(tmp_path))


@pytest.fixture
def make() -> Make:
    def teacher(model: str = "some/model", env: dict[str, str] | None = None, **options: Any) -> VLLMTeacher:
        return VLLMTeacher(model, python=sys.executable, env={"PYTHONPATH": str(PRETEND), **(env or {})}, **options)

    return teacher


def workers() -> list[int]:
    """The processes that pretend to be the workers of this test's servers."""
    found, mark = [], os.environ["PRETEND_MARK"].encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
            if b"pretend-vllm-worker" in words and mark in words.split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def gone(within: float = 15.0) -> bool:
    """Whether no worker is left after a while."""
    deadline = time.monotonic() + within
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not workers()


def test_the_server_starts_with_the_first_call_and_ends_with_the_run(make: Make, tmp_path: Path) -> None:
    teacher = make()
    assert workers() == []
    with Run(tmp_path / "run", teacher=teacher, quiet=True) as run:
        rows = run.map(Answer(), [Instruction(prompt=f"q{n}") for n in range(20)])
        assert [row.completion for row in rows] == [f"some/model says q{n}" for n in range(20)]
        assert len(workers()) == 1
    assert gone(0.5)
    assert not list((tmp_path / "cache" / "synthkd" / "vllm").glob("*.json"))


def test_a_teacher_serves_one_run_after_another_and_a_replay_starts_no_server(make: Make, tmp_path: Path) -> None:
    teacher, seeds = make(), [Instruction(prompt="q")]
    for folder in ("a", "b"):
        with Run(tmp_path / folder, teacher=teacher, quiet=True) as run:
            run.map(Answer(), seeds)
    with Run(tmp_path / "a", teacher=make(env={"PRETEND_FAILURE": "never"}), quiet=True) as run:
        assert len(run.map(Answer(), seeds)) == 1
    assert gone(0.5)


def test_its_identity_is_the_model_and_what_changes_it_and_no_port() -> None:
    assert VLLMTeacher("m").identity == "vllm#m"
    changed = VLLMTeacher("m", revision="abc", quantization="awq", tensor_parallel=4, dtype="bfloat16")
    assert changed.identity == "vllm#m@abc+awq"
    command = changed.options.arguments()
    assert command == [
        "--tensor-parallel-size",
        "4",
        "--dtype",
        "bfloat16",
        "--quantization",
        "awq",
        "--revision",
        "abc",
    ]


def test_a_specification_names_it_with_its_options() -> None:
    teacher = teacher_from("vllm:Qwen/Qwen3-8B?tensor_parallel=2&prefix_caching=true&gpu_memory=0.8&dtype=bfloat16")
    assert isinstance(teacher, VLLMTeacher)
    assert teacher.model == "Qwen/Qwen3-8B"
    assert "--enable-prefix-caching" in teacher.options.arguments()
    with pytest.raises(ConfigError, match="no option 'tensor'"):
        teacher_from("vllm:m?tensor=2")
    with pytest.raises(ConfigError, match="set by synthkd itself"):
        VLLMTeacher("m", extra=("--port", "8000"))


@pytest.mark.parametrize(
    ("said", "what", "cure"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "memory does not hold", "max_model_len"),
        ("RuntimeError: Failed to infer device type", "no GPU", "synthkd doctor"),
        ("OSError: nope/x is not a local folder and is not a valid model identifier", "not found", "HF_TOKEN"),
        ("OSError: [Errno 98] Address already in use", "port was taken", "Start again"),
        ("something that nobody has seen", "something that nobody has seen", "ends with"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_what_to_do(
    make: Make, tmp_path: Path, said: str, what: str, cure: str
) -> None:
    teacher = make(env={"PRETEND_FAILURE": said})
    with Run(tmp_path, teacher=teacher, quiet=True) as run:
        with pytest.raises(TeacherUnavailable, match=what) as caught:
            run.map(Answer(), [Instruction(prompt=f"q{n}") for n in range(5)])
        assert cure in str(caught.value)
        assert "vllm#some/model did not start" in str(caught.value)


def test_a_python_without_vllm_is_said_to_be_one(tmp_path: Path) -> None:
    run = Run(tmp_path, teacher=VLLMTeacher("m", python=sys.executable), quiet=True)
    with run, pytest.raises(TeacherUnavailable, match="this Python has no vLLM"):
        run.map(Answer(), [Instruction(prompt="q")])


def test_a_start_that_takes_too_long_is_given_up(make: Make, tmp_path: Path) -> None:
    teacher = make(env={"PRETEND_LOADING": "60"}, start_timeout=1.0)
    with Run(tmp_path, teacher=teacher, quiet=True) as run, pytest.raises(TeacherUnavailable, match="within 1 s"):
        run.map(Answer(), [Instruction(prompt="q")])
    assert gone(12)


def test_a_server_that_dies_is_started_again_so_often_and_no_more(make: Make, tmp_path: Path) -> None:
    told: list[str] = []
    teacher = make(restarts=1)
    with Run(tmp_path, teacher=teacher, quiet=True) as run:
        teacher.watch(told.append)
        run.map(Answer(), [Instruction(prompt="q")])
        [worker] = workers()
        os.kill(_parent(worker), signal.SIGKILL)
        assert [row.completion for row in run.map(Answer(), [Instruction(prompt="r")])] == ["some/model says r"]
        assert any("died and is started again" in text for text in told)
        with pytest.raises(TeacherUnavailable, match="died again") as caught:
            run.map(Answer(), [Instruction(prompt="die")])
        assert "EngineDeadError: the engine is dead" in str(caught.value)
    assert gone()


def test_two_models_of_which_memory_holds_one_take_turns(make: Make, tmp_path: Path) -> None:
    memory = {"PRETEND_MEMORY": str(tmp_path / "memory")}
    teacher, judge = make("teacher", memory), make("judge", memory)
    with Run(tmp_path / "run", teacher=teacher, judge=judge, quiet=True) as run:
        seeds = [Instruction(prompt=f"q{n}") for n in range(3)]
        assert len(run.map(Answer(), seeds)) == 3
        assert len(run.map(Answer(role="judge"), seeds)) == 3
        assert len(run.map(Answer(), [Instruction(prompt="again")])) == 1
    assert gone()


DRIVER = """
import sys
from synthkd import Instruction, Run
from synthkd.strategies import Answer
from synthkd.teachers import VLLMTeacher
teacher = VLLMTeacher("m", python=sys.executable, env={"PYTHONPATH": sys.argv[2]})
with Run(sys.argv[1], teacher=teacher, quiet=True) as run:
    run.map(Answer(), [Instruction(prompt="q")])
    print("asked", flush=True)
    import time
    time.sleep(600)
"""


def _driver(tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "run"), str(PRETEND)]
    environment = {**os.environ, "PRETEND_STUBBORN": "1"}  # workers that hang in a kernel hear nothing
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "asked\n"
    return process


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_outlives_a_driver_however_that_ends(tmp_path: Path, end: signal.Signals) -> None:
    process = _driver(tmp_path)
    assert workers()
    process.send_signal(end)
    process.wait(20)
    assert gone(30)


def test_what_is_left_of_a_driver_and_a_keeper_that_were_killed_together_is_ended_by_the_next_start(
    make: Make, tmp_path: Path
) -> None:
    process = _driver(tmp_path)
    [worker] = workers()
    server = _parent(worker)
    keeper = _parent(server)
    for one in (keeper, process.pid):
        os.kill(one, signal.SIGKILL)
    process.wait(10)
    assert workers() == [worker]
    told: list[str] = []
    teacher = make()

    async def main() -> None:
        from synthkd.message import Message
        from synthkd.request import Request

        teacher.watch(told.append)
        await teacher.generate(Request((Message("user", "q"),), str))
        assert worker not in workers()
        await teacher.aclose()

    asyncio.run(main())
    assert any("left behind" in text for text in told)
    assert gone()


def test_a_stale_record_harms_no_process_that_has_its_number_now(make: Make, tmp_path: Path) -> None:
    from synthkd.teachers.vllm.keeper import boot
    from synthkd.teachers.vllm.server import end_orphans

    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    gone_driver = subprocess.Popen(["true"])
    gone_driver.wait()
    folder = tmp_path / "cache" / "synthkd" / "vllm"
    folder.mkdir(parents=True)
    told: list[str] = []
    try:
        for when in (boot(), "another start of the machine"):
            record = {"keeper": bystander.pid, "driver": gone_driver.pid, "boot": when, "name": "vllm#m"}
            (folder / f"{bystander.pid}.json").write_text(json.dumps(record))
            end_orphans(told.append)
            assert bystander.poll() is None
        assert told == []
        assert list(folder.iterdir()) == []
    finally:
        bystander.kill()
        bystander.wait()


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

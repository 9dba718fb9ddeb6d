"""Batch runs that are killed, interrupted, cancelled or taken over: what the next run asks for, and what is paid."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer, Job, Plan
from loopback import Call, Served

from synthkd.errors import TeacherUnavailable
from synthkd.message import Message
from synthkd.record import Instruction
from synthkd.request import Request
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher
from synthkd.teachers.batch import Batch

PROGRAM = Path(__file__).with_name("batch_program.py")
RECORDS = 6
FAST: dict[str, Any] = {"gather_seconds": 0.05, "poll_seconds": (0.01, 0.03)}


class Processes:
    """Starts the program over and over, each time as a process of its own that can be killed."""

    def __init__(self) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid: int | None = None

    def run(self, folder: Path, server: BatchServer, stages: int = 2) -> dict[str, Any] | None:
        """What the program says in the end, or None if it was killed."""
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(json.dumps([str(folder), server.url, RECORDS, stages]) + "\n")
        self._mother.stdin.flush()
        found: dict[str, Any] | None = None
        for line in self._mother.stdout:
            word, _, rest = line.partition(" ")
            if word == "pid":
                self.pid = int(rest)
            elif word == "done":
                found = json.loads(rest)
            elif word == "ended":
                self.pid = None
                assert int(rest) in (0, signal.SIGKILL), "the program failed"
                return found
        raise AssertionError("the program ended")

    def kill(self) -> None:
        """End the process that runs now, at once."""
        limit = time.monotonic() + 10
        while self.pid is None and time.monotonic() < limit:
            time.sleep(0.001)
        assert self.pid is not None
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self._mother.kill()
        self._mother.communicate()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer(uneven) as started:
        yield started


def uneven(call: Call) -> Served | list[str]:
    """Some lines fail the first time, in every way there is."""
    if call.attempt == 1 and call.prompt == "question 1":
        return Served(status=500)
    if call.attempt == 1 and call.prompt == "question 3":
        return Served(drop="at once")
    return call.echo


def is_whole(done: dict[str, Any] | None, server: BatchServer, stages: int = 2) -> None:
    """Every row is there once, and nothing was executed twice with success."""
    assert done is not None
    assert done["several"] == [[f"answer {k} to: question {i}" for k in range(2)] for i in range(RECORDS)]
    assert done["single"] == [f"answer 0 to: question {i}" for i in range(RECORDS)] * (stages - 1)
    assert len(server.executed) == stages * RECORDS
    assert set(server.executed.values()) == {1}


def journaled(folder: Path) -> int:
    """How many completions are on disk."""
    try:
        with sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT COUNT(*) FROM calls").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_run_that_is_killed_at_each_step_in_turn_finishes_and_pays_everything_once(
    processes: Processes, tmp_path: Path
) -> None:
    with BatchServer() as other:
        steps: list[str] = []
        other.at = lambda place: bool(steps.append(place))
        is_whole(processes.run(tmp_path / "whole", other, 1), other, 1)
    assert {step.split()[0] for step in steps} == {"list", "upload", "create", "look", "content"}
    for number, step in enumerate(steps):
        folder, seen = tmp_path / str(number), 0
        with BatchServer() as server:

            def deadly(place: str, number: int = number) -> bool:
                nonlocal seen
                seen += 1
                if seen == number + 1:
                    processes.kill()
                return seen == number + 1

            server.at = deadly
            assert processes.run(folder, server, 1) is None, step
            is_whole(processes.run(folder, server, 1), server, 1)


def test_a_run_that_is_killed_over_and_over_gets_a_step_further_each_time(
    processes: Processes, server: BatchServer, tmp_path: Path
) -> None:
    seen, kills = 0, 0

    def deadly(place: str) -> bool:
        nonlocal seen
        seen += 1
        if seen == kills + 1:
            processes.kill()
        return seen == kills + 1

    server.at = deadly
    while (done := processes.run(tmp_path, server)) is None:
        seen, kills = 0, kills + 1
    assert kills >= 12
    is_whole(done, server)


def test_a_run_that_is_killed_midway_in_journaling_keeps_what_was_journaled(
    processes: Processes, server: BatchServer, tmp_path: Path
) -> None:
    kept: list[int] = []

    def deadly(place: str) -> bool:
        if place != "content half" or kept:
            return False
        limit = time.monotonic() + 10
        while not journaled(tmp_path) and time.monotonic() < limit:
            time.sleep(0.002)
        kept.append(journaled(tmp_path))
        processes.kill()
        return True

    server.at = deadly
    assert processes.run(tmp_path, server) is None
    assert 0 < kept[0] < 2 * RECORDS
    done = processes.run(tmp_path, server)
    is_whole(done, server)
    assert done is not None
    assert done["calls"] == 3 * RECORDS - kept[0]


def interrupted(server: BatchServer, folder: Path, **options: Any) -> OpenAITeacher:
    """A run that hears Ctrl-C while its batch is at work."""
    teacher = OpenAITeacher("m", base_url=server.url, batch=Batch(**FAST, **options))
    server.plans = [Plan(looks=-1)]

    def press(place: str) -> bool:
        if place == "look after" and server.log.count("look") == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    server.at = press
    with pytest.raises(KeyboardInterrupt), Run(folder, teacher=teacher) as run:
        run.map(Answer(), [Instruction(prompt=f"q{i}") for i in range(8)])
    return teacher


def finish(server: BatchServer, folder: Path) -> int:
    """The same run again; how many batches there are then."""
    teacher = OpenAITeacher("m", base_url=server.url, batch=Batch(**FAST))
    with Run(folder, teacher=teacher, quiet=True) as run:
        stage = run.map(Answer(), [Instruction(prompt=f"q{i}") for i in range(8)])
        assert [row.completion for row in stage] == [f"answer 0 to: q{i}" for i in range(8)]
    assert set(server.executed.values()) == {1}
    return len(server.jobs)


def test_a_batch_outlives_an_interrupt_and_the_next_run_takes_it_over(
    server: BatchServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(server, tmp_path)
    said = caplog.text + capsys.readouterr().err
    assert said.count("1 batch (batch_0) left running") == 1
    assert "cancel" not in server.log
    server.jobs["batch_0"].plan.looks = 0
    assert finish(server, tmp_path) == 1


def test_a_batch_is_cancelled_on_demand_and_the_next_run_uses_what_it_answered(
    server: BatchServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(server, tmp_path, cancel_on_stop=True)
    assert "1 batch (batch_0) cancelled" in caplog.text + capsys.readouterr().err
    assert server.jobs["batch_0"].status == "cancelling"
    assert finish(server, tmp_path) == 2
    assert [job.total for job in server.jobs.values()] == [8, 4]


def test_a_batch_that_somebody_cancels_at_the_provider_stops_the_run(server: BatchServer, tmp_path: Path) -> None:
    server.plans = [Plan("cancelled", executed=3)]
    with pytest.raises(TeacherUnavailable, match="5 of 8 requests unanswered"):
        finish(server, tmp_path)
    assert finish(server, tmp_path) == 2


def test_a_batch_is_found_behind_others_that_are_left_alone(server: BatchServer, tmp_path: Path) -> None:
    server.page = 2
    interrupted(server, tmp_path)
    for number in range(5):
        job = Job(f"other_{number}", "no such file", {"purpose": "of somebody else"}, Plan(), 2_000_000_009)
        server.jobs[job.id] = job
        job.status, job.files = "completed", {"output_file_id": "no such file"}
    server.jobs["batch_0"].plan.looks = 0
    server.log.clear()
    assert finish(server, tmp_path) == 6
    assert server.log.count("list") == 3


def test_a_running_batch_whose_input_cannot_be_read_is_waited_for(server: BatchServer, tmp_path: Path) -> None:
    interrupted(server, tmp_path)
    job = server.jobs["batch_0"]
    job.plan.looks = 0
    kept, job.file = server.files[job.file], "hidden"
    server.hidden[job.id] = kept
    assert finish(server, tmp_path) == 1


def ask(teacher: OpenAITeacher, *names: bytes, run: str = "a") -> list[str]:
    """The draws with these names, on a loop of their own."""
    request = Request((Message("user", "x"),), str)

    async def draw() -> list[str]:
        try:
            return [found.text for found in await teacher.generate_named(request, names, run)]
        finally:
            await teacher.aclose()

    return asyncio.run(draw())


def test_draws_of_the_same_request_with_other_names_or_of_another_run_are_asked_for(server: BatchServer) -> None:
    teacher = OpenAITeacher("m", base_url=server.url, batch=Batch(**FAST))
    for names, run in (((b"0", b"1"), "a"), ((b"2", b"3"), "a"), ((b"0", b"1"), "b")):
        before = len(server.jobs)
        assert len(ask(teacher, *names, run=run)) == 2
        assert len(server.jobs) == before + 1
    assert len(ask(teacher, b"0", b"1")) == 2
    assert len(server.jobs) == 3


def test_a_caller_that_gives_up_leaves_its_line_to_the_next_one(server: BatchServer) -> None:
    server.plans = [Plan(looks=-1)]
    teacher = OpenAITeacher("m", base_url=server.url, batch=Batch(**FAST))
    request = Request((Message("user", "x"),), str)

    async def impatient() -> str:
        first = asyncio.create_task(teacher.generate_named(request, (b"0",), "a"))
        await asyncio.to_thread(server.wait_for_jobs, 1)
        first.cancel()
        server.jobs["batch_0"].plan.looks = 0
        [found] = await teacher.generate_named(request, (b"0",), "a")
        await teacher.aclose()
        return found.text

    assert asyncio.run(impatient()) == "answer 0 to: x"
    assert len(server.jobs) == 1

"""A run that is killed, interrupted or started twice: what the same command does afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback, Served

from synthkd.errors import RunLocked
from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher
from synthkd.testing import FunctionTeacher

Serve = Callable[..., Loopback]
Start = Callable[..., subprocess.Popen[str]]
PROGRAM = Path(__file__).with_name("program.py")
WIDTH = 6
KILLS = int(os.environ.get("SYNTHKD_TEST_KILLS", "20"))
RECORDS = 6 * KILLS


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the program as a process of its own; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path, url: str, records: int = RECORDS, width: int = WIDTH) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAM), str(folder), url, str(records), str(width)]
        loud = {**os.environ, "PYTHONWARNINGS": "always::ResourceWarning"}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=loud))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> dict[str, int]:
    """What the program says of itself once it has ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found: dict[str, int] = json.loads(out.splitlines()[-1])
    return found


def faulty(call: Call) -> Served | list[str]:
    """A server as they are: it fails now and then, gives fewer choices than asked for, and malformed JSON.

    What it says depends on the request alone, never on the attempt, so two runs have the same rows whatever happens.
    """
    if call.attempt == 1 and call.rng.random() < 0.05:
        return Served(status=503, headers={"retry-after-ms": "5"})
    fixed = random.Random(f"{call.seed}:{call.key}")
    delay = call.rng.uniform(0.002, 0.02)
    if call.schema is None:
        given = 1 if fixed.random() < 0.2 else call.n
        return Served([f"{call.key} says {i}" for i in range(given)], delay=delay)
    score = fixed.randint(1, 5)
    shape = '{"reason": "so", "score": %d}' % score  # noqa: UP031 - braces
    if len(call.body["messages"]) == 2 and fixed.random() < 0.3:
        shape = fixed.choice(['{"reason": "so", "score": 9}', "No.", f'{{"reason": "so", "score": {score},}}'])
    return Served(shape, delay=delay)


def contents(folder: Path) -> dict[str, list[Any]]:
    """Everything that a finished run has on disk, but times and the order of arrival."""
    database = sqlite3.connect(folder / "run.db")
    try:
        queries = {
            "stages": "SELECT number, name, complete FROM stages ORDER BY number",
            "ledger": "SELECT stage, position, id, outputs, reason, dropped FROM ledger ORDER BY stage, position",
            "rows": "SELECT stage, position, k, id, body FROM rows ORDER BY stage, position, k",
            "calls": "SELECT key, sample, text FROM calls ORDER BY key",
        }
        return {name: database.execute(sql).fetchall() for name, sql in queries.items()}
    finally:
        database.close()


def test_kills_at_random_lose_no_row_double_none_and_pay_again_at_most_what_was_in_flight(
    serve: Serve, start: Start, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    undisturbed = serve(faulty, seed=1)
    assert finished(start(tmp_path / "undisturbed", undisturbed.url))["pairs"] > 20

    server, rng, flying = serve(faulty, seed=1), random.Random(5), 0
    for kill in range(KILLS):
        before = len(server.calls)
        process = start(tmp_path / "killed", server.url)
        if kill % 4 == 0:  # anywhere, the imports and the opening of the folder included
            time.sleep(rng.uniform(0.1, 0.6))
        else:
            server.wait_for(len(server.calls) + rng.randint(1, 12))
            time.sleep(rng.uniform(0, 0.03))
        process.kill()
        flying += sum(call.done is None for call in server.calls[before:])
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed: give it more records"
    finished(start(tmp_path / "killed", server.url))

    theirs, ours = contents(tmp_path / "undisturbed"), contents(tmp_path / "killed")
    url = (undisturbed.url, server.url)
    for name in ("stages", "ledger", "rows"):
        assert ours[name] == theirs[name], f"{name} differ from those of a run that nobody killed"
    assert [line[1] for line in ours["ledger"]] == [*range(RECORDS), *range(RECORDS)]
    assert sorted(text for _, _, text in ours["calls"]) == sorted(text for _, _, text in theirs["calls"]), url

    paid = [call for call in server.calls if faulty(call) is not None and not refused(call)]
    again = len(paid) - len({call.key for call in paid})
    record_property("calls paid again", again)
    print(f"{len(paid)} calls, {again} of them again after {KILLS} kills with {flying} unanswered calls in all")
    assert again <= KILLS * 2 * WIDTH, "two verdicts for each record in flight"


def refused(call: Call) -> bool:
    answer = faulty(call)
    return isinstance(answer, Served) and answer.status != 200


def test_ctrl_c_stops_within_about_a_second_says_how_to_resume_and_the_folder_resumes(
    serve: Serve, start: Start, tmp_path: Path
) -> None:
    server = serve(lambda call: Served(call.echo, delay=0.0 if int(call.prompt.split()[-1]) < 10 else 30.0))
    process = start(tmp_path / "run", server.url, records=40, width=16)
    server.wait_for(10 + 16)
    time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 2.0
    assert process.returncode != 0
    command = f"Resume with: python {PROGRAM} {tmp_path / 'run'} {server.url} 40 16"
    assert command in err
    for noise in ("Unclosed", "ResourceWarning", "never retrieved", "Exception ignored", "CancelledError"):
        assert noise not in err

    server.forget()
    server.behaviour = lambda call: call.echo
    said = finished(start(tmp_path / "run", server.url, records=40, width=16))
    assert said["replayed"] >= 10 * 2
    answered_before = {f"question {i}" for i in range(10)}
    assert not answered_before & {call.prompt for call in server.calls if call.schema is None}


def test_a_second_ctrl_c_is_no_worse_than_the_first(serve: Serve, start: Start, tmp_path: Path) -> None:
    server = serve(lambda call: Served(call.echo, delay=30.0))
    process = start(tmp_path / "run", server.url, records=8, width=8)
    server.wait_for(8)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    server.forget()
    server.behaviour = lambda call: call.echo
    said = finished(start(tmp_path / "run", server.url, records=8, width=8))
    assert said["calls"] == sum(call.n for call in server.calls) >= 8


def test_a_second_process_on_one_folder_is_turned_away_and_the_first_is_unharmed(
    serve: Serve, start: Start, tmp_path: Path
) -> None:
    turned_away = threading.Event()
    server = serve(lambda call: Served(call.echo, until=turned_away))
    first = start(tmp_path / "run", server.url, records=20, width=4)
    server.wait_for(4)
    second = start(tmp_path / "run", server.url, records=20, width=4)
    _, err = second.communicate(timeout=30)
    turned_away.set()
    assert second.returncode == 1
    assert "RunLocked" in err
    assert f"{tmp_path / 'run'} is in use by another process" in err
    assert finished(first)["calls"] == sum(call.n for call in server.calls)
    assert set(server.times.values()) == {1}


def test_the_folder_is_free_again_as_soon_as_a_run_has_ended_and_not_before(tmp_path: Path) -> None:
    teacher = FunctionTeacher(lambda request: "x")
    with Run(tmp_path, teacher=teacher, quiet=True):
        for _ in range(2):
            with pytest.raises(RunLocked):
                Run(tmp_path, teacher=teacher, quiet=True)
    Run(tmp_path, teacher=teacher, quiet=True).close()


def test_a_run_works_inside_a_running_event_loop_as_in_a_notebook(serve: Serve, tmp_path: Path) -> None:
    server = serve()

    async def cell() -> list[str]:
        with Run(tmp_path, teacher=OpenAITeacher("m", base_url=server.url), quiet=True) as run:
            first = run.map(Answer(), [Instruction(prompt="a")])
            await asyncio.sleep(0)
            second = run.map(Answer(), [Instruction(prompt="b")])
            return [row.completion for row in (*first, *second)]

    assert asyncio.run(cell()) == ["answer 0 to: a", "answer 0 to: b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_killed_process_leaves_no_lock_behind(serve: Serve, start: Start, tmp_path: Path) -> None:
    server = serve(lambda call: Served(call.echo, delay=30.0))
    process = start(tmp_path / "run", server.url, records=2, width=2)
    server.wait_for(2)
    process.kill()
    process.communicate()
    with Run(tmp_path / "run", teacher=FunctionTeacher(lambda request: "x"), quiet=True) as run:
        assert [row.completion for row in run.map(Answer(), [Instruction(prompt="a")])] == ["x"]

"""The run's file while another program holds it: the run waits with open eyes, and says who is in the way."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkd import database
from synthkd.database import Database
from synthkd.errors import RunFolderError
from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher

ROW = "INSERT INTO sources (teacher, prompt, sampling) VALUES (?, ?, ?)"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to a run's file, which holds nothing yet."""
    Database(tmp_path / "run.db").close()
    connection = sqlite3.connect(tmp_path / "run.db", isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def test_a_file_that_is_held_for_a_while_delays_the_commit_and_not_the_loop(
    tmp_path: Path, other: sqlite3.Connection
) -> None:
    mine = Database(tmp_path / "run.db")
    other.execute("BEGIN IMMEDIATE")

    async def work() -> tuple[float, float]:
        began = time.monotonic()
        mine.put(ROW, ("t", "p", "{}"))
        waiting = asyncio.create_task(mine.committed())
        longest, last = 0.0, time.monotonic()
        while not waiting.done():
            if time.monotonic() - began > 0.4 and other.in_transaction:
                other.execute("ROLLBACK")
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await waiting
        return time.monotonic() - began, longest

    took, longest = asyncio.run(work())
    assert 0.4 < took < 3
    assert longest < 0.3
    assert mine.read("SELECT teacher FROM sources") == [("t",)]
    mine.close()


def test_a_file_that_is_not_let_go_of_is_said_to_be_held_by_another_program_and_not_to_be_full(
    tmp_path: Path, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.2)
    other.execute("BEGIN IMMEDIATE")
    teacher = FunctionTeacher(lambda _: "yes")
    said = r"run\.db: another program holds the file.*Close.*same command"
    with pytest.raises(RunFolderError, match=said) as caught, Run(tmp_path, teacher=teacher, quiet=True) as run:
        run.map(Answer(), [Instruction(prompt="a")])
    assert "space" not in str(caught.value)
    other.execute("ROLLBACK")
    with Run(tmp_path, teacher=teacher, quiet=True) as run:
        assert len(run.map(Answer(), [Instruction(prompt="a")])) == 1


def test_a_file_that_another_program_has_to_itself_is_waited_for_when_a_run_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.3, lambda: connection.execute("ROLLBACK")).start()
    began = time.monotonic()
    Database(path).close()
    assert time.monotonic() - began > 0.2
    connection.close()


def test_what_waits_when_a_run_is_closed_is_not_waited_for_long(tmp_path: Path, other: sqlite3.Connection) -> None:
    mine = Database(tmp_path / "run.db")
    other.execute("BEGIN IMMEDIATE")

    async def work() -> None:
        mine.put(ROW, ("t", "p", "{}"))
        await asyncio.sleep(0.05)
        mine.hurry()
        await mine.committed()

    began = time.monotonic()
    with pytest.raises(RunFolderError, match="another program"):
        asyncio.run(work())
    mine.close()
    assert time.monotonic() - began < 2


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_is_heard_while_another_program_holds_the_file(tmp_path: Path, other: sqlite3.Connection) -> None:
    program = f"""
from synthkd import Instruction, Run
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher
def said(request):
    print("asked", flush=True)
    return "yes"
with Run({str(tmp_path)!r}, teacher=FunctionTeacher(said)) as run:
    run.map(Answer(), [Instruction(prompt="a")])
"""
    other.execute("BEGIN IMMEDIATE")
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 4, "about a second, on a machine with other work"
    assert "KeyboardInterrupt" in err
    assert "Resume with" in err

"""The program under test, in this process or in one of its own: the only place that starts it for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from synthkd.cli.app import app

ROOT = Path(__file__).parents[2]

ANSWERING = """
from pathlib import Path
from typing import Literal
from synthkd import Instruction, Run, data
from synthkd.strategies import Answer

def pipeline(run: Run, n: int = 3, seeds: Path | None = None, style: Literal["plain", "proud"] = "plain") -> None:
    '''Answers n questions.

    For tests only.
    '''
    questions = data.read(seeds, Instruction) if seeds else [Instruction(prompt=f"question {i}") for i in range(n)]
    run.save(run.map(Answer(), questions))
"""
"""A pipeline that asks its teacher `n` questions and saves the answers."""


def cli(*arguments: str | Path) -> Result:
    """The command in this process, ended."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="synthkd")


def started(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own, under way."""
    command = [sys.executable, "-W", "error", "-m", "synthkd.cli", *(str(argument) for argument in arguments)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], within: float = 20.0) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process of its own."""
    out, err = process.communicate(timeout=within)
    return process.returncode, out, err


def written(name: str, text: str) -> Path:
    """A file in the test's folder."""
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path

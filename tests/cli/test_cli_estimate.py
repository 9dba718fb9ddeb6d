"""`synthkd estimate` and the limits of `synthkd run`: what it will cost, and that it never costs more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import ANSWERING, cli, written
from loopback import Loopback, Served

Serve = Callable[..., Loopback]


@pytest.fixture
def spec(serve: Serve) -> str:
    server = serve(lambda call: Served("two words", delay=0.002))
    return f"openai:m@{server.url}"


def words(text: str, first: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(first))


def test_an_estimate_tells_each_stage_and_what_was_paid_and_the_run_does_not_pay_again(serve: Serve) -> None:
    server = serve()
    command = (
        written("mine.py", ANSWERING),
        "--teacher",
        f"openai:m@{server.url}",
        "-p",
        "n=40",
        "--price",
        "teacher=1,4",
    )
    result = cli("estimate", *command)
    assert result.exit_code == 0, result.output
    assert words(result.stdout, "answer")[:3] == ["answer", "40", "40"]
    assert "pilot    8 of 40 records" in result.stdout
    assert "paid     8 calls, $0.00" in result.stdout
    assert not Path("runs/mine/dataset").exists()
    result = cli("run", *command, "--quiet")
    assert result.exit_code == 0, result.output
    assert len(server.calls) == 40


def test_an_estimate_can_be_read_by_programs(spec: str) -> None:
    result = cli(
        "estimate", written("mine.py", ANSWERING), "--teacher", spec, "-p", "n=10", "--pilot", "5", "--json", "-q"
    )
    found = json.loads(result.stdout)
    assert found["stages"][0]["calls"] == {"expected": 10.0, "low": 10.0, "high": 10.0}
    assert (found["total"]["cost"], found["paid"], found["paid_calls"]) == (None, None, 5)


def test_unknown_costs_are_said_to_be_unknown(spec: str) -> None:
    result = cli("estimate", written("mine.py", ANSWERING), "--teacher", spec, "-p", "n=10")
    assert "unknown" in words(result.stdout, "answer")
    assert "calls, unknown" in result.stdout


def test_a_pipeline_that_cannot_be_piloted_is_refused_in_a_sentence(spec: str) -> None:
    path = written("nothing.py", "def pipeline(run):\n    pass\n")
    result = cli("estimate", path, "--teacher", spec)
    assert result.exit_code == 2
    assert "maps over no records" in result.stderr


def test_its_help_tells_the_pipeline_s_options() -> None:
    assert "n: int = 3" in cli("estimate", written("mine.py", ANSWERING), "--help").stdout


def test_a_limited_run_ends_with_exit_code_1_and_says_how_to_go_on(spec: str) -> None:
    command = ("run", str(written("mine.py", ANSWERING)), "--teacher", spec, "-p", "n=20")
    result = cli(*command, "--max-calls", "7")
    assert result.exit_code == 1
    assert "the limit of 7 calls is reached: 7 are spent in this folder" in result.stderr
    assert "give a higher max_calls (--max-calls)" in result.stderr
    assert "Resume with:" in result.stderr
    assert "Traceback" not in result.stderr
    assert cli(*command, "--max-calls", "20").exit_code == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--max-cost", "1"), r"no price is known for http.*--price teacher=0.4,1.6"),
        (("--price", "teacher=cheap"), "expected two or three numbers"),
        (("--price", "teacher=1"), "expected two or three numbers"),
        (("--price", "teacher=-1,1"), "0 or more"),
        (("--price", "critic=1,1"), "nobody plays this role"),
        (("--max-tokens", "-1"), "max_tokens=-1"),
    ],
)
def test_a_limit_or_price_that_cannot_be_is_refused_before_anything_is_made(
    spec: str, option: tuple[str, str], said: str
) -> None:
    import re

    result = cli("run", written("mine.py", ANSWERING), "--teacher", spec, *option)
    assert result.exit_code == 2, result.output
    assert re.search(said, result.stderr)
    assert not Path("runs").exists()


def test_a_price_from_the_command_line_limits_money_and_stands_in_the_report(spec: str) -> None:
    command = ("run", written("mine.py", ANSWERING), "--teacher", spec, "--price", "teacher=1000,4000")
    assert cli(*command, "--max-cost", "100").exit_code == 0
    assert words(cli("report", "runs/mine").stdout, spec.partition("@")[2])[-1].startswith("$0.0")
    assert cli(*command, "-p", "n=9", "--max-cost", "0.03").exit_code == 1

"""The command line as a whole: its help, its start, its ways in."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from commandline import ROOT, cli, ended, started

COMMANDS = (
    ["run"],
    ["report"],
    ["prompts", "list"],
    ["prompts", "show"],
    ["prompts", "render"],
    ["train", "sft"],
    ["train", "dpo"],
    ["eval"],
    ["doctor"],
    ["version"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.exit_code == 0, result.output
    assert "synthkd " + " ".join(command) in result.stdout
    if command not in (["version"], ["prompts", "list"]):
        assert "Example" in result.stdout


def test_the_first_help_names_every_command_and_where_to_start() -> None:
    result = cli("--help")
    for command in COMMANDS:
        assert f"\n  {command[0]} " in result.stdout
    assert "Start here:" in result.stdout


def test_a_command_that_is_not_there_is_an_error_that_names_the_near_one() -> None:
    result = cli("rum")
    assert result.exit_code == 2
    assert "run" in result.stderr


def test_the_start_loads_typer_and_nothing_heavier() -> None:
    heavy = "{'pydantic', 'orjson', 'rich', 'aiohttp', 'asyncio', 'jinja2', 'datasets', 'torch', 'sqlite3'}"
    check = f"import sys; import synthkd.cli.app; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_help_takes_less_than_half_a_second_of_the_processor() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended(started("--help"))[0] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5

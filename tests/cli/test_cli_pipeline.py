"""Pipelines from files: what a file must hold, and how texts of the command line become its options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import ANSWERING, cli, written

SEEN = """
import json
from pathlib import Path
from typing import Annotated, Literal, Optional
from pydantic import Field
from synthkd import Run

def pipeline(run: Run, must: Path, count: int = 1, rate: float = 0.5, fast: bool = False, name: Optional[str] = None,
             of: Literal["a", "b", 3] = "a", many: list[int] = [], few: Annotated[int, Field(lt=5)] = 1, untyped=7,
             seeds: str | None = None, limit: int | None = None):
    given = {key: repr(value) for key, value in locals().items() if key != "run"}
    (run.folder / "seen.json").write_text(json.dumps(given))
"""


def seen(folder: str = "runs/seen") -> dict[str, str]:
    """What the pipeline was given."""
    return dict(json.loads(Path(folder, "seen.json").read_text()))


def test_options_become_what_the_parameters_types_say() -> None:
    pairs = ["must=a/b", "count=3", "rate=1e-3", "fast=yes", "name=x", "of=3", "many=[1,2]", "few=4", "untyped=8"]
    flags = [part for pair in pairs for part in ("-p", pair)]
    result = cli("run", written("seen.py", SEEN), *flags, "--limit", "12", "--seeds", "s.jsonl")
    assert result.exit_code == 0, result.output
    assert seen() == {
        "must": "PosixPath('a/b')",
        "count": "3",
        "rate": "0.001",
        "fast": "True",
        "name": "'x'",
        "of": "3",
        "many": "[1, 2]",
        "few": "4",
        "untyped": "8",
        "seeds": "'s.jsonl'",
        "limit": "12",
    }
    about = json.loads(Path("runs/seen/run.json").read_text())["options"]
    assert (about["rate"], about["must"], about["many"], about["of"]) == (0.001, "a/b", [1, 2], 3)


def test_options_that_are_not_given_keep_their_defaults() -> None:
    assert cli("run", written("seen.py", SEEN), "-p", "must=x=y").exit_code == 0
    found = seen()
    assert found["must"] == "PosixPath('x=y')"
    assert (found["count"], found["name"], found["limit"]) == ("1", "None", "None")
    assert json.loads(Path("runs/seen/run.json").read_text())["options"]["rate"] == 0.5


def test_a_secret_option_stays_out_of_the_run_s_description() -> None:
    path = written(
        "mine.py",
        "from pydantic import SecretStr\n"
        "def pipeline(run, token: SecretStr): assert token.get_secret_value() == 'sk-secret-4'\n",
    )
    result = cli("run", path, "-p", "token=sk-secret-4")
    assert result.exit_code == 0, result.output
    assert "sk-secret-4" not in result.output + Path("runs/mine/run.json").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-p", "must=x", "-p", "cuont=3"], "no parameter 'cuont'. Did you mean count?"),
        (["-p", "must=x", "-p", "count=many"], "'many' is no int"),
        (["-p", "must=x", "-p", "of=c"], "'c' is no Literal['a', 'b', 3]"),
        (["-p", "must=x", "-p", "many=1,2"], "'1,2' is no list[int]"),
        (["-p", "must=x", "-p", "few=7"], "Input should be less than 5"),
        (["-p", "must=x", "-p", "count"], "expected -p NAME=VALUE"),
        (["-p", "must=x", "-p", "count=1", "-p", "count=2"], "'count' is given twice"),
        (["-p", "must=x", "--limit", "1", "-p", "limit=2"], "limit is given twice, also as --limit 1"),
        ([], "seen.py needs a value for must: add -p must=VALUE"),
    ],
)
def test_a_wrong_option_is_a_sentence_that_lists_what_the_pipeline_takes(given: list[str], said: str) -> None:
    result = cli("run", written("seen.py", SEEN), *given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    if "twice" not in said and "NAME=VALUE" not in said:
        assert "  count: int = 1" in result.stderr
    assert not Path("runs").exists()


def test_seeds_that_the_pipeline_does_not_take_are_an_error() -> None:
    path = written("none.py", "def pipeline(run): pass\n")
    result = cli("run", path, "--seeds", "x.jsonl")
    assert result.exit_code == 2
    assert "--seeds x.jsonl: the pipeline has no parameter 'seeds'. none.py takes no options." in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def main(run): pass", "has no function named `pipeline`"),
        ("def pipeline(): pass", "no parameter for the run"),
        ("async def pipeline(run): pass", "is async or a generator"),
        ("def pipeline(run): pass\nROLES = ['tiny']", "ROLES is list, expected a dict"),
        ("def pipeline(run): pass\nROLES = {'judge': 'gpt-4'}", "'gpt-4' names no teacher"),
        ("def pipeline(run): pass\nROLES = {'judge': 4}", "role 'judge' was given int"),
        (
            "from __future__ import annotations\ndef pipeline(run, a: Nothing = 1): pass",
            "name 'Nothing' is not defined",
        ),
    ],
)
def test_a_file_that_holds_no_pipeline_is_a_sentence(text: str, said: str) -> None:
    result = cli("run", written("mine.py", text))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("runs").exists()


def test_a_file_that_is_not_there_is_a_sentence() -> None:
    result = cli("run", "nowhere.py")
    assert result.exit_code == 2
    assert "nowhere.py: no such file" in result.stderr


def test_help_with_a_file_shows_the_pipeline_s_own_options() -> None:
    result = cli("run", written("mine.py", ANSWERING + "ROLES = {'teacher': 'tiny'}\n"), "--help")
    assert result.exit_code == 0
    assert "For tests only." in result.stdout
    assert "  n: int = 3\n" in result.stdout
    assert "  seeds: Path | None = None\n" in result.stdout
    assert "  style: Literal['plain', 'proud'] = 'plain'\n" in result.stdout
    assert "  teacher: tiny\n" in result.stdout


def test_what_lies_beside_the_file_can_be_imported() -> None:
    written("beside.py", "NUMBER = 4\n")
    result = cli(
        "run", written("mine.py", "from beside import NUMBER\ndef pipeline(run, n: int = NUMBER): assert n == 4\n")
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [("import nothing_of_this_name", "ModuleNotFoundError"), ("def pipeline(run: pass", "SyntaxError")],
)
def test_a_file_that_breaks_when_it_is_imported_shows_its_own_line(text: str, said: str) -> None:
    path = written("mine.py", text)
    result = cli("run", path)
    assert result.exit_code == 1
    assert said in result.stderr
    files = {line.split('"')[1] for line in result.stderr.splitlines() if line.startswith("  File ")}
    assert files == {str(path.resolve())}

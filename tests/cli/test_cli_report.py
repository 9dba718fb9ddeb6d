"""`synthkd report`: what became of a run, finished, at work, killed, or broken."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import ANSWERING, cli, ended, started, written
from loopback import Call, Loopback, Served

from synthkd import Ask, Completion, Demonstration, Instruction, Request, Run
from synthkd.errors import RecordError
from synthkd.report import read_report
from synthkd.request import Usage
from synthkd.strategies import Answer, Sample
from synthkd.testing import FunctionTeacher

Serve = Callable[..., Loopback]


def reply(request: Request[Any]) -> Completion:
    """Some tokens; nothing at all for the question `empty`."""
    text = request.messages[-1].content
    return Completion("" if text == "empty" else f"to {text}", finish_reason="stop", usage=Usage(10, 5, 2, 1))


async def long_enough(record: Demonstration, ask: Ask) -> Sequence[Demonstration]:
    """Rejects short prompts, with a detail."""
    if len(record.instruction) < 3:
        raise RecordError(f"{record.instruction!r} has {len(record.instruction)} letters, wanted 3", reason="too short")
    return [record]


def made(folder: str = "made") -> Path:
    """A run with two stages, 4 rejects of 2 reasons, and 7 calls."""
    with Run(folder, teacher=FunctionTeacher(reply, "echo"), quiet=True) as run:
        prompts = ["one", "2", "three", "empty", "5", "6", "[bold]\x1b[31mseven"]
        run.map(long_enough, run.map(Answer(), [Instruction(prompt=prompt) for prompt in prompts]), name="long")
    return Path(folder)


def lines_of(text: str, *first: str) -> list[str]:
    """The words of the line that begins with these."""
    return next(words for line in text.splitlines() if (words := line.split())[: len(first)] == list(first))


def test_the_report_tells_stages_calls_and_rejects() -> None:
    result = cli("report", made())
    assert result.exit_code == 0, result.output
    assert lines_of(result.stdout, "answer")[:7] == ["answer", "list", "7", "6", "1", "1", "empty"]
    assert lines_of(result.stdout, "long")[:8] == ["long", "answer", "6", "3", "3", "3", "too", "short"]
    assert lines_of(result.stdout, "echo")[2:7] == ["7", "70", "35", "14", "7"]
    assert lines_of(result.stdout, "long", "too", "short")[3:] == ["3", "'2'", "has", "1", "letters,", "wanted", "3"]


def test_rejects_shows_so_many_of_each_with_their_records_and_as_plain_text() -> None:
    result = cli("report", made(), "--rejects", "2")
    assert result.stdout.count("long: too short, record ") == 2
    assert "  '2' has 1 letters, wanted 3" in result.stdout
    assert "  prompt: 5" in result.stdout
    assert "answer: empty reply, record " in result.stdout
    assert "\x1b" not in result.stdout


def test_text_of_records_is_shown_as_it_is_without_its_control_characters() -> None:
    async def nothing(record: Instruction, ask: Ask) -> Sequence[Instruction]:
        raise RecordError(record.instruction, reason="none")

    with Run("odd", quiet=True) as run:
        run.map(nothing, [Instruction(prompt="[bold]x[/bold] :smile: \x1b[31mred\x07")])
    assert (
        "[bold]x[/bold] :smile: \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"
        in cli("report", "odd").stdout
    )


def test_json_has_what_report_json_has_and_the_rejects() -> None:
    folder = made()
    found = json.loads(cli("report", folder, "--json", "--rejects", "1").stdout)
    saved = json.loads((folder / "report.json").read_text())
    assert found["run"] == saved["run"]
    for ours, theirs in zip(found["stages"], saved["stages"], strict=True):
        assert theirs.items() <= ours.items()
        assert ours["complete"]
    for ours, theirs in zip(found["calls"], saved["calls"], strict=True):
        assert theirs.items() <= ours.items()
    assert [(reject["stage"], reject["reason"]) for reject in found["rejects"]] == [
        ("answer", "empty reply"),
        ("long", "too short"),
    ]
    assert found["rejects"][0]["body"]["prompt"] == "empty"


def test_draws_that_were_dropped_are_told() -> None:
    answers = iter(["yes", "", "no", ""])
    with Run("drawn", teacher=FunctionTeacher(lambda request: next(answers)), quiet=True) as run:
        run.map(Sample(4), [Instruction(prompt="x")])
    assert "(draws dropped: 2 empty reply)" in cli("report", "drawn").stdout


def test_a_run_at_work_can_be_asked() -> None:
    with Run("busy", teacher=FunctionTeacher(reply, "echo"), quiet=True) as run:
        run.map(Answer(), [Instruction(prompt="one")])
        result = cli("report", "busy")
    assert result.exit_code == 0, result.output
    assert lines_of(result.stdout, "answer")[2:5] == ["1", "1", "0"]


def test_a_killed_run_can_be_asked_and_is_not_changed_by_it(serve: Serve) -> None:
    server = serve(lambda call: Served(call.echo, delay=60.0 if call.prompt == "question 2" else 0.0))
    process = started("run", written("mine.py", ANSWERING), "--teacher", f"openai:m@{server.url}", "--out", "killed")
    server.wait_for(3)
    while not (Path("killed/run.db").exists() and len(read_report("killed").stages) and read_report("killed").calls):
        assert process.poll() is None
    process.kill()
    ended(process)
    before = {path: path.read_bytes() for path in Path("killed").glob("run.*") if not path.name.endswith("-shm")}
    assert Path("killed/run.db-wal") in before
    result = cli("report", "killed")
    assert result.exit_code == 0, result.output
    assert "answer (unfinished)" in result.stdout
    assert not Path("killed/report.json").exists()
    after = {path: path.read_bytes() for path in Path("killed").glob("run.*") if not path.name.endswith("-shm")}
    assert after == before


def test_the_run_s_file_itself_may_be_named() -> None:
    assert cli("report", made() / "run.db").exit_code == 0


def test_a_copy_without_its_description_can_still_be_asked() -> None:
    made("whole")
    Path("copy").mkdir()
    Path("copy/run.db").write_bytes(Path("whole/run.db").read_bytes())
    result = cli("report", "copy")
    assert result.exit_code == 0, result.output
    assert lines_of(result.stdout, "answer")[2:4] == ["7", "6"]


def test_asking_leaves_nothing_behind_in_the_folder() -> None:
    folder = made()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert cli("report", folder).exit_code == 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_no_run_there_names_those_that_are() -> None:
    made("runs/one")
    result = cli("report", "runs/two")
    assert result.exit_code == 2
    assert "runs/two does not exist; expected the folder of a run. There is: runs/one." in result.stderr


@pytest.mark.parametrize("content", [b"not a database, whatever its name says" * 40, None])
def test_a_file_that_is_no_run_is_a_sentence(content: bytes | None) -> None:
    Path("odd").mkdir()
    if content is None:
        connection = sqlite3.connect("odd/run.db")
        connection.execute("CREATE TABLE other (x)")
        connection.close()
    else:
        Path("odd/run.db").write_bytes(content)
    result = cli("report", "odd")
    assert result.exit_code == 1
    assert result.stderr.startswith("synthkd: odd/run.db ")
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_seen_enough_ends_the_report_quietly(serve: Serve) -> None:
    with Run("big", teacher=FunctionTeacher(lambda request: "", "echo"), quiet=True) as run:
        run.map(Answer(), [Instruction(prompt=f"{i} " * 200) for i in range(300)])
    process = started("report", "big", "--rejects", "300")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(10) in (0, 1)


def test_figures_that_are_read_agree_with_the_stage_s_own_ledger(serve: Serve) -> None:
    def fails(call: Call) -> str:
        return "" if call.rng.random() < 0.3 else call.echo[0]

    server = serve(fails)
    from synthkd.teachers import OpenAITeacher

    with Run("many", teacher=OpenAITeacher("m", base_url=server.url), quiet=True) as run:
        stage = run.map(Sample(3), [Instruction(prompt=f"q {i}") for i in range(60)])
        ledger = stage.ledger
    [found] = read_report("many").stages
    assert (found.records_in, found.records_out) == (ledger.records_in, ledger.records_out)
    assert (found.rejected, found.dropped) == (ledger.rejected, ledger.dropped)
    assert ledger.rejected

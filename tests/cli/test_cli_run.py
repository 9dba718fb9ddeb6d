"""`synthkd run`: options, teachers, resuming, and how it ends."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import ANSWERING, cli, ended, started, written
from loopback import Call, Loopback, Served

from synthkd.teachers import FORMS, teacher_from

Serve = Callable[..., Loopback]


def test_a_pipeline_runs_from_its_file_and_the_end_says_what_became_of_it(serve: Serve) -> None:
    server = serve()
    result = cli("run", written("mine.py", ANSWERING), "--teacher", f"openai:m@{server.url}")
    assert result.exit_code == 0, result.output
    assert sorted(server.prompts) == ["question 0", "question 1", "question 2"]
    answer = next(line for line in result.stdout.splitlines() if line.strip().startswith("answer"))
    assert answer.split()[2:5] == ["3", "3", "0"]
    assert "runs/mine/dataset" in result.stdout
    assert "synthkd report runs/mine" in result.stdout
    about = json.loads(Path("runs/mine/run.json").read_text())
    assert about["pipeline"] == "mine.py"
    assert about["roles"]["teacher"] == f"{server.url}#m"


def test_the_same_command_again_asks_only_what_is_owed(serve: Serve) -> None:
    server = serve()
    command = ("run", written("mine.py", ANSWERING), "--teacher", f"openai:m@{server.url}", "--out", "here")
    assert cli(*command).exit_code == 0
    assert cli(*command).exit_code == 0
    assert len(server.calls) == 3
    assert cli(*command, "-p", "n=5").exit_code == 0
    assert len(server.calls) == 5


def test_another_pipeline_s_folder_is_not_taken(serve: Serve) -> None:
    teacher = ("--teacher", f"openai:m@{serve().url}", "--out", "here")
    assert cli("run", written("mine.py", ANSWERING), *teacher).exit_code == 0
    before = Path("here/report.json").read_bytes()
    refused = cli("run", written("other.py", ANSWERING), *teacher)
    assert refused.exit_code == 2
    assert "here holds the run of mine.py" in refused.stderr
    assert "--out" in refused.stderr
    assert Path("here/report.json").read_bytes() == before
    Path("here/run.json").unlink()
    assert cli("run", "other.py", *teacher).exit_code == 0


def test_the_end_names_what_was_saved_and_not_what_lies_there_from_before(serve: Serve) -> None:
    path = written("mine.py", ANSWERING.replace("run.save(", "n == 3 and run.save("))
    command = ("run", path, "--teacher", f"openai:m@{serve().url}", "--out", "here")
    assert "dataset  here/dataset\n" in cli(*command).stdout
    later = cli(*command, "-p", "n=2")
    assert "none was saved; here/dataset is what an earlier run saved" in " ".join(later.stdout.split())


def test_quiet_says_nothing_also_where_the_pipeline_prints(serve: Serve) -> None:
    printing = "    from rich.console import Console\n    print('mine')\n    Console().print('mine too')\n"
    command = ("run", written("mine.py", ANSWERING + printing), "--teacher", f"openai:m@{serve().url}")
    loud = cli(*command)
    assert "mine\nmine too\n" in loud.stdout
    quiet = cli(*command, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert "With --quiet nothing goes to standard output" in cli("run", "--help").stdout


def test_a_quiet_pipeline_that_fails_is_still_heard() -> None:
    path = written("mine.py", "def pipeline(run):\n    print(run.quiet)\n    1 / 0\n")
    result = cli("run", path, "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "ZeroDivisionError" in result.stderr


def test_the_command_line_s_teachers_go_before_the_file_s(serve: Serve) -> None:
    mine, other = serve(), serve()
    roles = f'ROLES = {{"teacher": "openai:m@{mine.url}", "critic": "openai:c@{mine.url}"}}\n'
    path = written("mine.py", ANSWERING + roles)
    assert cli("run", path, "--out", "a").exit_code == 0
    assert (len(mine.calls), len(other.calls)) == (3, 0)
    options = ("--teacher", f"openai:o@{other.url}", "--role", f"poet=openai:p@{other.url}", "--out", "b")
    assert cli("run", path, *options).exit_code == 0
    assert (len(mine.calls), len(other.calls)) == (3, 3)
    found = json.loads(Path("b/run.json").read_text())["roles"]
    assert found == {
        "teacher": f"{other.url}#o",
        "judge": f"{other.url}#o",
        "critic": f"{mine.url}#c",
        "poet": f"{other.url}#p",
    }


def test_a_role_may_be_a_teacher_object() -> None:
    path = written(
        "mine.py",
        ANSWERING + "from synthkd.testing import FunctionTeacher\n"
        "ROLES = {'teacher': FunctionTeacher(lambda request: request.messages[-1].content.upper())}\n",
    )
    assert cli("run", path).exit_code == 0
    with sqlite3.connect("runs/mine/run.db") as file:
        assert "QUESTION 1" in {text for (text,) in file.execute("SELECT text FROM calls")}
    file.close()


def test_a_role_that_nobody_plays_names_the_option_that_cures_it() -> None:
    result = cli("run", written("mine.py", ANSWERING))
    assert result.exit_code == 2
    assert "no teacher plays the role 'teacher'" in result.stderr
    assert "--teacher" in result.stderr


@pytest.mark.parametrize("form", ["openai:m@http://127.0.0.1:1/v1", "openai-batch:m@http://127.0.0.1:1/v1", "tiny"])
def test_the_forms_in_the_help_are_those_that_are_read(form: str) -> None:
    assert form.partition(":")[0] in FORMS
    teacher_from(form)


def test_the_limits_of_the_command_line_hold_for_every_endpoint(serve: Serve) -> None:
    server = serve(lambda call: Served(call.echo, delay=0.05))
    mine = written("mine.py", ANSWERING)
    command = ("run", mine, "--teacher", f"openai:m@{server.url}", "-p", "n=12", "--max-in-flight", "2")
    assert cli(*command).exit_code == 0
    ends = sorted((call.at, call.done or 0.0) for call in server.calls)
    assert all(sum(at <= later < done for at, done in ends) <= 2 for later, _ in ends)
    assert "--rpm" in cli("run", mine, "--teacher", f"openai:m@{server.url}", "--rpm", "0").output


def test_a_run_that_must_stop_says_why_and_how_to_resume_and_never_the_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHKD_API_KEY", "sk-secret-1")
    server = serve(lambda call: Served(status=401, error="wrong key sk-secret-1"))
    process = started("run", written("mine.py", ANSWERING), "--teacher", f"openai:m@{server.url}", "-p", "n=1")
    code, out, err = ended(process)
    assert code == 1
    assert "answered 401" in err
    assert f"Resume with: synthkd run mine.py --teacher openai:m@{server.url} -p n=1" in err
    assert "Traceback" not in err
    assert "sk-secret-1" not in out + err


def test_how_to_resume_repeats_no_password_and_no_key_and_no_file_has_them(serve: Serve) -> None:
    server = serve(lambda call: Served(status=401, error="no"))
    path = written("mine.py", ANSWERING.replace("n: int = 3", "n: int = 3, api_key: str = ''"))
    url = server.url.replace("http://", "http://me:pw-secret@") + "?key=query-secret"
    process = started("run", path, "--teacher", f"openai:m@{url}", "-p", "api_key=key-secret", "-p", "n=1")
    code, out, err = ended(process)
    assert code == 1
    assert f"Resume with: synthkd run mine.py --teacher openai:m@{server.url} -p 'api_key=[secret]' -p n=1" in err
    assert "credentials" in err
    assert "-secret" not in out + err
    assert all(b"-secret" not in file.read_bytes() for file in Path("runs/mine").rglob("*") if file.is_file())


def test_a_bug_shows_the_user_s_own_frames_and_no_values() -> None:
    path = written(
        "mine.py",
        "from synthkd import Instruction\n"
        "async def breaks(record, ask):\n    secret = 'sk-' + 'hidden'\n    return [1 / 0]\n"
        "def pipeline(run): run.map(breaks, [Instruction(prompt='x')])\n",
    )
    result = cli("run", path)
    assert result.exit_code == 1
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert "return [1 / 0]" in result.stderr
    assert "while stage 'breaks' worked on record" in result.stderr
    files = {line.split('"')[1] for line in result.stderr.splitlines() if line.startswith("  File ")}
    assert files == {str(path.resolve())}
    assert "sk-hidden" not in result.output


def test_ctrl_c_ends_at_once_says_once_how_to_resume_and_nothing_is_paid_twice(serve: Serve) -> None:
    def slow_after_two(call: Call) -> Served:
        return Served(call.echo, delay=0.0 if call.prompt in ("question 0", "question 1") else 60.0)

    server = serve(slow_after_two)
    command = ("run", written("mine.py", ANSWERING), "--teacher", f"openai:m@{server.url}", "-p", "n=4", "--out", "a b")
    process = started(*command)
    server.wait_for(4)
    while calls_in("a b") < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process, within=5)
    assert code == 130
    assert err.count("Resume with: synthkd run mine.py") == 1
    assert "--out 'a b'" in err
    assert "Traceback" not in err
    server.behaviour = lambda call: call.echo
    server.forget()
    assert cli(*command).exit_code == 0
    assert sorted(server.prompts) == ["question 2", "question 3"]


def test_ctrl_c_is_not_silent_in_a_quiet_run(serve: Serve) -> None:
    server = serve(lambda call: Served(call.echo, delay=60.0))
    process = started("run", written("mine.py", ANSWERING), "--teacher", f"openai:m@{server.url}", "--quiet")
    server.wait_for(3)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process, within=5)
    assert (code, out) == (130, "")
    assert err.count("Resume with: synthkd run mine.py") == 1
    assert len(err.splitlines()) == 1


def calls_in(folder: str) -> int:
    """Completions in a run's file."""
    file = sqlite3.connect(f"{Path(folder, 'run.db').resolve().as_uri()}?mode=ro", uri=True)
    try:
        return int(file.execute("SELECT COUNT(*) FROM calls").fetchone()[0])
    finally:
        file.close()

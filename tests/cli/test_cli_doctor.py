"""`synthkd doctor` and `synthkd version`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import pytest
from commandline import cli
from loopback import Loopback, Served

from synthkd.cli import doctor

Serve = Callable[..., Loopback]


def test_it_tells_what_is_installed_and_what_the_machine_has() -> None:
    result = cli("doctor")
    assert result.exit_code == 0, result.output
    for word in ("python", "cpu", "gpu", "disk", "GiB free"):
        assert word in result.stdout
    line = next(line for line in result.stdout.splitlines() if "aiohttp" in line)
    assert line.split() == ["core", "aiohttp", ">=3.11", version("aiohttp")]


def test_of_a_key_it_says_that_it_is_set_and_never_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-2")
    result = cli("doctor")
    said = {words[0]: words[1:3] for line in result.stdout.splitlines() if (words := line.split())}
    assert said["OPENAI_API_KEY"][0] == "set"
    assert said["SYNTHKD_API_KEY"] == ["not", "set"]
    assert "sk-secret-2" not in result.output


def test_what_is_missing_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(name: str) -> str:
        if name == "peft":
            raise PackageNotFoundError(name)
        return "0.1" if name == "math-verify" else version(name)

    monkeypatch.setattr(doctor, "version", poor)
    result = cli("doctor")
    assert result.exit_code == 0
    assert "train is not complete: pip install 'synthkd[train]'" in result.stdout
    assert "eval is not complete: pip install 'synthkd[eval]'" in result.stdout
    assert "core is not" not in result.stdout


def test_a_core_that_is_not_complete_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "rich" else version(name))
    result = cli("doctor")
    assert result.exit_code == 1
    assert "core is not complete: pip install --upgrade synthkd" in result.stdout


def test_a_teacher_is_asked_one_tiny_thing(serve: Serve) -> None:
    server = serve(lambda call: "ready")
    result = cli("doctor", "--teacher", f"openai:m@{server.url}")
    assert result.exit_code == 0, result.output
    assert len(server.calls) == 1
    assert server.calls[0].body["max_tokens"] <= 64
    said = {words[0]: " ".join(words[1:]) for line in result.stdout.splitlines() if (words := line.split())}
    assert said["is"].startswith(f"{server.url}#m")
    assert said["said"] == "ready"
    assert said["took"].endswith(" s")


def test_a_batch_teacher_is_asked_at_once_and_no_batch_is_waited_for(serve: Serve) -> None:
    server = serve(lambda call: "ready")
    result = cli("doctor", "--teacher", f"openai-batch:m@{server.url}")
    assert result.exit_code == 0, result.output
    assert len(server.calls) == 1
    assert "a batch of one would be waited for" in result.output


def test_a_teacher_that_refuses_is_a_sentence_without_the_key(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKD_API_KEY", "sk-secret-3")
    server = serve(lambda call: Served(status=404, error="no model m for sk-secret-3"))
    result = cli("doctor", "--teacher", f"openai:m@{server.url}")
    assert result.exit_code == 1
    assert "answered 404 for model 'm'" in result.stderr
    assert "That took" in result.stderr
    assert "sk-secret-3" not in result.output


@pytest.mark.parametrize(
    "spec",
    [
        "openai:m@http://user:pw-secret@127.0.0.1:9/v1?key=query-secret",
        "openai:m@http://user:a/pw-secret@127.0.0.1:9/v1",
    ],
)
def test_a_teacher_that_is_not_there_is_a_sentence_without_its_password_and_its_query(spec: str) -> None:
    result = cli("doctor", "--teacher", spec)
    assert result.exit_code in (1, 2)
    assert "127.0.0.1:9" in result.stderr or "cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    assert "-secret" not in result.output


def test_a_specification_that_is_none_is_a_sentence() -> None:
    result = cli("doctor", "--teacher", "gpt-4")
    assert result.exit_code == 2
    assert "'gpt-4' names no teacher; expected one of: openai:MODEL" in result.stderr


def test_version_says_the_version() -> None:
    assert cli("version").stdout == cli("--version").stdout == f"{version('synthkd')}\n"

"""Keys and passwords: planted everywhere they can be given, and looked for everywhere they could turn up."""

from __future__ import annotations

import subprocess
import sys
import traceback
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback, Served

from synthkd.errors import SynthKDError
from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher

Serve = Callable[..., Loopback]
SECRETS = {
    "argument": "sk-argument-8f3kQ",
    "environment": "sk-environment-77xZ",
    "password": "pass/word-2p9L",
    "query": "query-key-5d1W",
    "header": "header-key-0c6R",
    "proxy": "proxy-pass-3v8T",
}
FORMS = {
    **SECRETS,
    "password, quoted": "pass%2Fword-2p9L",
    "password, encoded": b64encode(b"me:pass/word-2p9L").decode(),
    "half of the argument": "sk-argument",
    "proxy, encoded": b64encode(b"me:proxy-pass-3v8T").decode(),
}


def indiscreet(call: Call) -> Served:
    """A server whose errors repeat all that it was sent: headers, URL, and the key alone."""
    said = f"{'x' * 450} got {dict(call.headers)} at {call.target}"
    kind = call.prompt.split()[0]
    faults = {
        "400": Served(status=400, error=said),
        "401": Served(status=401, error=said),
        "500": Served(status=500, body=said.encode()),
        "429": Served(status=429, error=said, code="insufficient_quota"),
        "307": Served(status=307, headers={"Location": f"http://127.0.0.1:1/{call.headers.get('Authorization')}"}),
        "html": Served(body=f"{'x' * 110}{said[450:]}".encode()),
        "reset": Served("x", drop="midway"),
    }
    return faults.get(kind) or Served(call.echo)


def teachers(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> dict[str, OpenAITeacher]:
    """One teacher for each way of giving it a secret."""
    monkeypatch.setenv("SYNTHKD_API_KEY", SECRETS["environment"])
    with_password = server.url.replace("http://", f"http://me:{FORMS['password, quoted']}@")
    made = {
        "argument": OpenAITeacher("m", base_url=server.url, api_key=SECRETS["argument"], tries=2),
        "environment": OpenAITeacher("m", base_url=server.url, tries=2),
        "password": OpenAITeacher("m", base_url=with_password, tries=2),
        "query": OpenAITeacher("m", base_url=f"{server.url}?code={SECRETS['query']}&api-version=1", tries=2),
        "header": OpenAITeacher("m", base_url=server.url, headers={"Api-Key": f"Key {SECRETS['header']}"}, tries=2),
    }
    for teacher in made.values():
        teacher.limits = replace(teacher.limits, longest_wait=0.01)
    return made


def found_in(text: str) -> list[str]:
    return [name for name, secret in FORMS.items() if secret in text]


def found_below(folder: Path) -> list[tuple[str, str]]:
    """Which secret is in which file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        (path.name, name) for path in files for name, secret in FORMS.items() if secret.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("fault", ["fine", "400", "401", "500", "429", "307", "html", "reset"])
@pytest.mark.parametrize("place", ["argument", "environment", "password", "query", "header"])
def test_a_secret_is_sent_and_turns_up_in_no_file_log_error_or_output(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    place: str,
    fault: str,
) -> None:
    server = serve(indiscreet)
    teacher = teachers(server, monkeypatch)[place]
    caplog.set_level("DEBUG")
    told: list[str] = [repr(teacher), str(teacher), teacher.identity, repr(teacher.limits)]
    try:
        with Run(tmp_path, teacher=teacher) as run:
            stage = run.map(Answer(), [Instruction(prompt="fine at first"), Instruction(prompt=f"{fault} then")])
            told += [str(stage), *(repr(reject) for reject in stage.rejects)]
    except SynthKDError as error:
        told += [str(error), repr(error), "".join(traceback.format_exception(error)), str(error.__cause__)]
        told += [repr(error.__context__), repr(vars(error))]
    assert fault == "fine" or len(told) > 5, "the fault was told of"
    sent = f"{server.calls[0].headers} {server.calls[0].target}"
    assert FORMS.get(f"{place}, encoded", SECRETS[place]) in sent, "the secret was sent"
    captured = capfd.readouterr()
    assert found_in("\n".join(told)) == []
    assert found_in(caplog.text) == []
    assert found_in(captured.out + captured.err) == []
    assert found_below(tmp_path) == []


def test_the_proxy_s_password_is_told_to_the_proxy_alone(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(indiscreet)
    place = proxy.url.removeprefix("http://").removesuffix("/v1")
    monkeypatch.setenv("http_proxy", f"http://me:{SECRETS['proxy']}@{place}")
    for number, fault in enumerate(("fine", "401", "html", "unreachable")):
        if fault == "unreachable":
            monkeypatch.setenv("http_proxy", f"http://me:{SECRETS['proxy']}@127.0.0.1:1")
        teacher = OpenAITeacher("m", base_url="http://far.invalid/v1", tries=1)
        told = ""
        try:
            with Run(tmp_path / str(number), teacher=teacher, quiet=True) as run:
                told = repr(list(run.map(Answer(), [Instruction(prompt=fault)]).rejects))
        except SynthKDError as error:
            told = "".join(traceback.format_exception(error))
        assert told
        assert found_in(told) == []
    assert proxy.calls[0].headers["Proxy-Authorization"] == f"Basic {FORMS['proxy, encoded']}"
    assert found_below(tmp_path) == []


@pytest.mark.parametrize("fault", ["fine", "401", "400"])
def test_a_program_that_dies_of_an_error_prints_no_secret_even_with_debug_logging(
    serve: Serve, tmp_path: Path, fault: str
) -> None:
    server = serve(indiscreet)
    program = f"""
import asyncio, faulthandler, logging, sys
logging.basicConfig(level="DEBUG")
from synthkd import Instruction, Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher
headers = {{"X-Key": "{SECRETS["header"]}"}}
url = "{server.url}?code={SECRETS["query"]}"
teacher = OpenAITeacher("m", base_url=url, api_key="{SECRETS["argument"]}", headers=headers)
with Run({str(tmp_path / "run")!r}, teacher=teacher) as run:
    stage = run.map(Answer(), [Instruction(prompt={fault!r})])
    print(stage, list(stage))
    if stage:
        run.save(stage)
"""
    (tmp_path / "program.py").write_text(program)
    environment: dict[str, Any] = {"PYTHONASYNCIODEBUG": "1", "SYNTHKD_API_KEY": SECRETS["environment"], "PATH": ""}
    command = [sys.executable, "-X", "dev", str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode == 0) == (fault != "401"), done.stderr
    assert found_in(done.stdout + done.stderr) == []
    assert "Unclosed" not in done.stderr
    assert found_below(tmp_path / "run") == []

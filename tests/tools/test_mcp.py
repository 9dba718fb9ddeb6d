"""MCP: a real server over stdio, and one over HTTP; its tools are called once, and its key is seen by nobody else."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from synthkd import tools
from synthkd.ask import Ask
from synthkd.errors import ConfigError
from synthkd.record import Demonstration, Instruction
from synthkd.run import Run
from synthkd.testing import SchemaTeacher
from synthkd.tools import Course, Outcome, Tool

SERVER = Path(__file__).with_name("mcp_server.py")
KEY = "sk-very-secret-0123456789"


def call(folder: Path, tool: Tool, arguments: dict[str, Any]) -> Any:
    async def strategy(record: Instruction, ask: Ask) -> list[Demonstration]:
        outcome = await tool.use(arguments, Course(ask))
        return [Demonstration(prompt=record.prompt, completion=outcome.text, meta={"failed": outcome.failed})]

    with Run(folder, teacher=SchemaTeacher(), quiet=True) as run:
        stage = run.map(strategy, [Instruction(prompt="?")])
        if stage.ledger.rejected:
            return stage.ledger.rejected
        return Outcome(stage[0].completion, bool(stage[0].meta["failed"]))


def test_a_server_s_tools_are_listed_called_once_and_replayed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, str(SERVER), str(log)]
    for _ in range(2):
        with tools.mcp(command, env={"TEST_KEY": KEY}) as found:
            named = {tool.name: tool for tool in found}
            assert list(named) == ["add", "fail", "secret", "leave"]
            assert named["add"].description == "Add two numbers."
            assert named["add"].parameters["required"] == ["a", "b"]
            assert call(tmp_path / "add", named["add"], {"a": 2, "b": 3}) == Outcome("5")
            refused = call(tmp_path / "wrong", named["add"], {"a": "two", "b": 3})
            assert refused == Outcome("Error: a: 'two' is not of type 'integer'", failed=True)
            failed = call(tmp_path / "fail", named["fail"], {"why": "no luck"})
            assert failed.failed
            assert "no luck" in failed.text
            assert call(tmp_path / "secret", named["secret"], {}) == Outcome("the key is [secret]")
    assert log.read_text() == "2+3\n"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"the key is [secret]" in written
    assert KEY.encode() not in written


def test_a_server_that_is_gone_costs_the_record(tmp_path: Path) -> None:
    command = [sys.executable, str(SERVER), str(tmp_path / "log")]
    with tools.mcp(command, only=["leave", "add"], timeout=20) as found:
        named = {tool.name: tool for tool in found}
        assert sorted(named) == ["add", "leave"]
        assert call(tmp_path / "run", named["leave"], {}) == {"tool unavailable": 1}
        assert call(tmp_path / "run", named["add"], {"a": 1, "b": 1}) == {"tool unavailable": 1}


def test_a_server_over_http_is_used_by_its_url(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = SERVER.read_text().replace(
        'server.run(sys.argv[2] if len(sys.argv) > 2 else "stdio")',
        f'server.run("streamable-http", host="127.0.0.1", port={port})',
    )
    served = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        with tools.mcp(f"http://127.0.0.1:{port}/mcp", headers={"Authorization": f"Bearer {KEY}"}) as found:
            assert call(tmp_path / "run", found[0], {"a": 2, "b": 3}) == Outcome("5")
    finally:
        served.kill()
        served.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.mark.parametrize(
    ("server", "more", "said"),
    [
        (["/nowhere/server"], {}, "cannot be used"),
        ([sys.executable, "-c", "import sys; sys.exit('my last words ' + sys.argv[1])", KEY], {}, "my last words"),
        ([sys.executable, str(SERVER), "/dev/null"], {"only": ["sub"]}, "has no tool sub; there are: add"),
        ("", {}, "names no server"),
        ("python x.py", {"headers": {"a": "b"}}, "headers=... for a URL"),
        ("http://user:pw12345@127.0.0.1:9/mcp?key=123456", {}, "http://127.0.0.1:9/mcp"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_at_once(server: Any, more: dict[str, Any], said: str) -> None:
    with (
        pytest.raises(ConfigError, match=said) as caught,
        tools.mcp(server, env={"K": KEY} if KEY in server else None, timeout=20, **more),
    ):
        pass
    assert not [secret for secret in (KEY, "pw12345", "123456") if secret in str(caught.value)]

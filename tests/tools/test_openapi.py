"""OpenAPI: each operation is a tool, called over real HTTP; its credentials are seen by the server and nobody else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from synthkd import tools
from synthkd.ask import Ask
from synthkd.errors import ConfigError, RunError
from synthkd.record import Demonstration, Instruction
from synthkd.run import Run
from synthkd.testing import SchemaTeacher
from synthkd.tools import Course, Outcome, Tool

KEY = "sk-very-secret-0123456789"
DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "http://127.0.0.1:9/{stage}", "variables": {"stage": {"default": "v1"}}}],
    "paths": {
        "/pets/{petId}": {
            "parameters": [{"$ref": "#/components/parameters/PetId"}],
            "get": {
                "operationId": "getPet",
                "summary": "One pet.",
                "parameters": [
                    {"name": "fields", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "X-Api-Key", "in": "header", "required": True, "schema": {"type": "string"}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
            },
        },
        "/pets": {
            "post": {
                "description": "Add a pet.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            }
        },
        "/upload": {
            "put": {
                "operationId": "upload",
                "requestBody": {"content": {"multipart/form-data": {"schema": {"type": "object"}}}},
            }
        },
    },
    "components": {
        "parameters": {
            "PetId": {
                "name": "petId",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "Id.",
            }
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "nullable": True},
                    "age": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                    "parent": {"$ref": "#/components/schemas/Pet"},
                },
            }
        },
    },
}
USED = ["getPet", "post_pets"]


class Api:
    """A real HTTP server on the loopback; what it answers is the test's function."""

    def __init__(self, answer: Callable[[web.BaseRequest, bytes], web.Response]) -> None:
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),))
        self._thread.start()
        assert started.wait(10)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.requests.append((request.method, request.raw_path, dict(request.headers), body))
        return self.answer(request, body)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


Serve = Callable[[Callable[[web.BaseRequest, bytes], web.Response]], Api]


@pytest.fixture
def api() -> Iterator[Serve]:
    opened: list[Api] = []

    def start(answer: Callable[[web.BaseRequest, bytes], web.Response]) -> Api:
        opened.append(Api(answer))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def call(folder: Path, tool: Tool, arguments: dict[str, Any]) -> Any:
    """What a tool gives for one record of a run, or the ledger's rejects."""

    async def strategy(record: Instruction, ask: Ask) -> list[Demonstration]:
        outcome = await tool.use(arguments, Course(ask))
        return [Demonstration(prompt=record.prompt, completion=outcome.text, meta={"failed": outcome.failed})]

    with Run(folder, teacher=SchemaTeacher(), quiet=True) as run:
        stage = run.map(strategy, [Instruction(prompt="?")])
        if stage.ledger.rejected:
            return stage.ledger.rejected
        return Outcome(stage[0].completion, bool(stage[0].meta["failed"]))


def pets(url: str | None = None, **more: Any) -> dict[str, Tool]:
    given: dict[str, Any] = {"headers": {"X-API-Key": KEY}, "operations": USED, "base_url": url, **more}
    return {tool.name: tool for tool in tools.openapi(DOCUMENT, **given)}


def test_each_operation_is_a_tool_whose_schema_stands_by_itself() -> None:
    found = pets()
    assert list(found) == USED
    assert found["getPet"].description == "One pet."
    assert found["getPet"].parameters == {
        "type": "object",
        "properties": {
            "petId": {"type": "string", "description": "Id."},
            "fields": {"type": "array", "items": {"type": "string"}},
            "X-Trace": {"type": "string"},
        },
        "additionalProperties": False,
        "required": ["petId"],
    }
    pet = found["post_pets"].parameters
    assert pet["properties"] == {"body": {"$ref": "#/$defs/Pet"}}
    assert pet["$defs"]["Pet"]["properties"] == {
        "name": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "age": {"type": "number", "exclusiveMinimum": 0},
        "parent": {"$ref": "#/$defs/Pet"},
    }


def test_arguments_reach_their_places_and_the_answer_comes_back_once(api: Serve, tmp_path: Path) -> None:
    server = api(lambda request, body: web.json_response({"é": 1}))
    tool = pets(server.url, query={"token": "query-secret"})["getPet"]
    arguments = {"petId": "a/b?c=1 é", "fields": ["x", "y&z"], "X-Trace": "t"}
    for _ in range(2):  # the second time from the journal
        assert call(tmp_path / "run", tool, arguments) == Outcome('{"\\u00e9": 1}')
    [(method, path, headers, _)] = server.requests
    assert (method, path) == ("GET", "/v1/pets/a%2Fb%3Fc%3D1%20%C3%A9?fields=x&fields=y%26z&token=query-secret")
    assert (headers["X-API-Key"], headers["X-Trace"]) == (KEY, "t")


def test_a_body_is_checked_and_sent_as_json(api: Serve, tmp_path: Path) -> None:
    server = api(lambda request, body: web.Response(text="made", status=201))
    tool = pets(server.url)["post_pets"]
    body = {"name": None, "age": 2**70, "parent": {"name": "Rex"}}
    assert call(tmp_path / "a", tool, {"body": body}) == Outcome("made")
    assert json.loads(server.requests[0][3]) == body
    wrong = call(tmp_path / "b", tool, {"body": {"name": "x", "age": 0, "parent": {}}})
    assert wrong.failed
    assert "body.age: 0 is less than or equal to the minimum of 0" in wrong.text
    assert "body.parent: 'name' is a required property" in wrong.text
    assert len(server.requests) == 1


@pytest.mark.parametrize("value", ["..", ".", "", "a/../b", "..\\x"])
def test_an_argument_does_not_climb_out_of_its_part_of_the_path(api: Serve, tmp_path: Path, value: str) -> None:
    server = api(lambda request, body: web.Response(text="ok"))
    outcome = call(tmp_path / "run", pets(server.url)["getPet"], {"petId": value})
    assert outcome.failed
    assert "cannot be a part of a path" in outcome.text
    assert server.requests == []


def test_a_header_takes_no_line_break(api: Serve, tmp_path: Path) -> None:
    server = api(lambda request, body: web.Response(text="ok"))
    outcome = call(tmp_path / "run", pets(server.url)["getPet"], {"petId": "1", "X-Trace": "a\r\nX-Api-Key: b"})
    assert outcome.failed
    assert server.requests == []


def test_what_the_server_refuses_is_told_with_its_body(api: Serve, tmp_path: Path) -> None:
    server = api(lambda request, body: web.Response(text="no pet 9", status=404))
    assert call(tmp_path / "run", pets(server.url)["getPet"], {"petId": "9"}) == Outcome(
        "Error: HTTP 404: no pet 9", True
    )


def test_a_redirect_is_not_followed(api: Serve, tmp_path: Path) -> None:
    other = api(lambda request, body: web.Response(text="elsewhere"))
    server = api(lambda request, body: web.Response(status=302, headers={"Location": other.url}))
    assert call(tmp_path / "run", pets(server.url)["getPet"], {"petId": "1"}) == Outcome("Error: HTTP 302", True)
    assert other.requests == []


def test_what_may_pass_is_tried_again(api: Serve, tmp_path: Path) -> None:
    answers = iter([503, 429, 500, 200])
    server = api(lambda request, body: web.Response(text="ok", status=next(answers)))
    assert call(tmp_path / "run", pets(server.url)["getPet"], {"petId": "1"}) == Outcome("ok")
    assert len(server.requests) == 4


def test_a_service_that_stays_away_costs_the_record_and_is_asked_again_next_time(api: Serve, tmp_path: Path) -> None:
    status = [500]
    server = api(lambda request, body: web.Response(text="ok", status=status[0]))
    tool = pets(server.url, tries=1)["getPet"]
    assert call(tmp_path / "run", tool, {"petId": "1"}) == {"tool unavailable": 1}
    status[0] = 200
    assert call(tmp_path / "run", tool, {"petId": "1"}) == Outcome("ok")
    nobody = pets("http://127.0.0.1:9/v1", tries=1)["getPet"]
    assert call(tmp_path / "other", nobody, {"petId": "1"}) == {"tool unavailable": 1}


def test_a_post_that_may_have_had_its_effect_is_not_made_twice(api: Serve, tmp_path: Path) -> None:
    server = api(lambda request, body: web.Response(status=500))
    assert call(tmp_path / "run", pets(server.url)["post_pets"], {"body": {"name": "x"}}) == {"tool unavailable": 1}
    assert len(server.requests) == 1


def test_a_wrong_key_stops_the_run(api: Serve, tmp_path: Path) -> None:
    server = api(lambda request, body: web.Response(status=401, text=f"bad key {request.headers['X-API-Key']}"))
    with pytest.raises(RunError, match="answered 401") as caught:
        call(tmp_path / "run", pets(server.url)["getPet"], {"petId": "1"})
    assert KEY not in str(caught.value)


def test_credentials_reach_the_server_and_no_file(api: Serve, tmp_path: Path) -> None:
    token, query = "Bearer eyJabcdefghijklmnop", "query secret+1"

    def echo(request: web.BaseRequest, body: bytes) -> web.Response:
        return web.json_response({"headers": dict(request.headers), "url": str(request.raw_path)})

    server = api(echo)
    tool = pets(server.url, headers={"X-API-Key": KEY, "Authorization": token}, query={"key": query})["getPet"]
    outcome = call(tmp_path / "run", tool, {"petId": "1"})
    assert server.requests[0][2]["Authorization"] == token
    assert "[secret]" in outcome.text
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"getPet" in written
    for secret in (KEY, token, "eyJabcdefghijklmnop", query, "query%20secret%2B1"):
        assert secret.encode() not in written
        assert secret not in repr(tool)


def test_a_long_answer_and_one_that_is_no_text_are_kept_short(api: Serve, tmp_path: Path) -> None:
    long = api(lambda request, body: web.Response(body=b"x" * 3_000_000, content_type="text/plain"))
    assert len(call(tmp_path / "a", pets(long.url)["getPet"], {"petId": "1"}).text) == 2**20 - len(KEY)
    half = api(lambda request, body: web.Response(body=b"x" * (2**20 - 9) + KEY.encode(), content_type="text/plain"))
    assert set(call(tmp_path / "half", pets(half.url)["getPet"], {"petId": "1"}).text) == {"x"}
    picture = api(lambda request, body: web.Response(body=b"\x89PNG", content_type="image/png"))
    assert call(tmp_path / "b", pets(picture.url)["getPet"], {"petId": "1"}) == Outcome("(image/png, 4 bytes)")


def test_a_document_may_be_a_file(tmp_path: Path) -> None:
    for name, text in (("a.json", json.dumps(DOCUMENT)), ("a.yaml", yaml.safe_dump(DOCUMENT, sort_keys=False))):
        path = tmp_path / name
        path.write_text(text)
        assert [tool.name for tool in tools.openapi(path, operations=USED)] == USED


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({"openapi": None, "swagger": "2.0"}, {}, "expected OpenAPI 3"),
        ({"servers": []}, {}, "pass base_url"),
        ({}, {"operations": ["nothing"]}, "no operation nothing; there are: getPet"),
        ({}, {"operations": ["upload"]}, "multipart/form-data"),
        ({}, {"base_url": "ftp://x"}, "no http URL"),
        ({}, {"base_url": f"https://me:{KEY}@x.org"}, "credentials"),
        ({}, {"base_url": f"https://x.org?key={KEY}"}, "a query"),
        ({}, {"headers": {"A": "b\nc"}}, "line break"),
        ({}, {"tries": 0}, "at least one try"),
        ({"components": {}}, {}, "which is not in it"),
    ],
)
def test_what_cannot_be_called_is_refused_at_once(change: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        tools.openapi({**DOCUMENT, **change}, **{"operations": USED, **more})
    assert KEY not in str(caught.value)

"""The files and batches endpoints on the loopback: the only place that fakes a provider's batch API.

It answers single calls as `Loopback` does, at the same URL, and executes a batch's lines with the same behaviour: what
that serves with status 200 goes to the output file, any other status to the error file, and `drop` leaves the line out
of both. A batch gets on each time somebody looks at it, so nothing here depends on a clock::

    with BatchServer() as server:
        server.plans = [Plan(end="expired", executed=3)]      # the first batch; the next ones end well
        server.fault("create after", "drop")                   # the client never hears of the batch
        server.executed, server.jobs, server.log
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web
from loopback import Behaviour, Call, Loopback, Served

MOST_LINES, MOST_BYTES = 50_000, 200 * 1024 * 1024
_HEAD = {"object": "batch", "completion_window": "24h", "endpoint": "/v1/chat/completions"}


@dataclass
class Plan:
    """What becomes of one batch."""

    end: str = "completed"
    looks: int = 2
    """How often it is seen at work before it has ended; -1 for ever."""
    executed: int | None = None
    """How many of its lines are executed; None: all."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Why it failed validation, for `end="failed"`."""


@dataclass
class Fault:
    """What goes wrong with one call, before or after it had its effect."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": {"message": "out of order"}}'
    drop: bool = False


@dataclass
class Job:
    """One batch."""

    id: str
    file: str
    metadata: dict[str, str]
    plan: Plan
    created: int
    status: str = "validating"
    looks: int = 0
    files: dict[str, str] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    total: int = 0

    def shown(self) -> dict[str, Any]:
        """What the endpoints say of it."""
        counts = {"completed": self.done, "failed": self.failed, "total": self.total}
        errors = {"object": "list", "data": self.plan.errors} if self.status == "failed" else None
        told = {"id": self.id, "input_file_id": self.file, "created_at": self.created, "metadata": self.metadata}
        return {**_HEAD, **told, "status": self.status, "errors": errors, "request_counts": counts, **self.files}


class BatchServer(Loopback):
    """The server; a context manager.

    Args:
        behaviour: what to do with a line, and with a single call.
        page: how many batches a listing gives at most.
    """

    def __init__(self, behaviour: Behaviour = lambda call: call.echo, *, seed: int = 0, page: int = 100) -> None:
        super().__init__(behaviour, seed=seed)
        self.page = page
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.plans: list[Plan] = []
        """What becomes of the next batches; without one they end well."""
        self.executed: Counter[str] = Counter()
        """How often a line with this id was executed with success, which is what the provider bills."""
        self.asked: Counter[str] = Counter()
        """How often a line with this id was executed at all."""
        self.log: list[str] = []
        """Every call's endpoint, in order: list, upload, create, look, content, cancel."""
        self.headers: list[Mapping[str, str]] = []
        self.at: Callable[[str], bool] = lambda place: False
        """Called with `create before`, `create after`, `content half`, ...; True: the client is no more."""
        self.broken_lines: bool = False
        """Every file is interrupted in the middle, once."""
        self.hidden: dict[str, bytes] = {}
        """Input files by batch that nobody can read, though the batch works with them."""
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._interrupted: set[str] = set()

    def fault(self, place: str, *faults: Fault) -> None:
        """Let the next calls at `place` (`upload before`, `create after`, ...) go wrong."""
        self._faults[place].extend(faults)

    def lines(self, job: Job) -> list[dict[str, Any]]:
        """The lines that a batch was made of."""
        content = self.hidden.get(job.id) or self.files[job.file]
        return [json.loads(line) for line in content.splitlines()]

    def wait_for_jobs(self, jobs: int, seconds: float = 20.0) -> None:
        """Block until so many batches were created."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.jobs) >= jobs, seconds), f"{len(self.jobs)} of {jobs} batches"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.removeprefix("/v1/").split("/")
        name = {
            ("POST", "files", 1): "upload",
            ("GET", "files", 3): "content",
            ("POST", "batches", 1): "create",
            ("GET", "batches", 1): "list",
            ("GET", "batches", 2): "look",
            ("POST", "batches", 3): "cancel",
        }.get((request.method, parts[0], len(parts)))
        if name is None:
            return await super()._handle(request)
        self.log.append(name)
        self.headers.append(dict(request.headers))
        work: Callable[[web.BaseRequest, str], Any] = getattr(self, f"_{name}")
        try:
            for place in (f"{name} before", f"{name} after"):
                if place.endswith("after"):
                    response: web.StreamResponse = await work(request, parts[1] if len(parts) > 1 else "")
                if await asyncio.to_thread(self.at, place):
                    return self._failing(request, Fault(drop=True))
                if self._faults[place]:
                    return self._failing(request, self._faults[place].popleft())
            return response
        except ConnectionError:  # the client is gone; nobody reads this
            return web.Response(status=500)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.failure = error
            raise

    def _failing(self, request: web.BaseRequest, fault: Fault) -> web.Response:
        if fault.drop:
            assert request.transport is not None
            request.transport.abort()
        headers = {"Content-Type": "application/json", **fault.headers}
        return web.Response(status=fault.status, headers=headers, body=fault.body)

    async def _upload(self, request: web.BaseRequest, _: str) -> web.Response:
        content = b""
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            chunks = []
            while chunk := await part.read_chunk(1 << 20):  # `read` takes no more than a megabyte
                chunks.append(bytes(chunk))
            read = b"".join(chunks)
            if part.name == "file":
                content = read
            else:
                assert (part.name, read) == ("purpose", b"batch")
        if len(content) > MOST_BYTES:
            return web.json_response({"error": {"message": "File is too large."}}, status=400)
        return web.json_response(self._stored(content))

    def _stored(self, content: bytes) -> dict[str, Any]:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = content
        told = {"id": file_id, "object": "file", "bytes": len(content), "created_at": 0, "filename": "f.jsonl"}
        return {**told, "purpose": "batch", "status": "processed"}

    async def _create(self, request: web.BaseRequest, _: str) -> web.Response:
        asked = json.loads(await request.read())
        assert (asked["endpoint"], asked["completion_window"]) == (_HEAD["endpoint"], "24h")
        assert all(len(name) <= 64 and len(value) <= 512 for name, value in asked["metadata"].items())
        plan = self.plans.pop(0) if self.plans else Plan()
        number = len(self.jobs)
        job = Job(f"batch_{number}", asked["input_file_id"], asked["metadata"], plan, 2_000_000_000 + number)
        job.total = len(self.lines(job))
        ids = [line["custom_id"] for line in self.lines(job)]
        if len(set(ids)) < len(ids) or not 0 < len(ids) <= MOST_LINES:
            job.plan = Plan("failed", errors=[{"code": "duplicate_custom_id", "message": "lines"}])
        with self.arrived:
            self.jobs[job.id] = job
            self.arrived.notify_all()
        return web.json_response(job.shown())

    async def _list(self, request: web.BaseRequest, _: str) -> web.Response:
        newest = list(reversed(self.jobs.values()))
        if after := request.query.get("after"):
            newest = newest[[job.id for job in newest].index(after) + 1 :]
        size = min(self.page, int(request.query.get("limit", 20)))
        shown = [job.shown() for job in newest[:size]]
        return web.json_response({"object": "list", "data": shown, "has_more": len(newest) > size})

    async def _look(self, _: web.BaseRequest, job_id: str) -> web.Response:
        job = self.jobs[job_id]
        if job.status in ("validating", "in_progress", "cancelling"):
            self._advance(job)
        return web.json_response(job.shown())

    async def _cancel(self, _: web.BaseRequest, job_id: str) -> web.Response:
        job = self.jobs[job_id]
        job.status = "cancelling"
        job.plan.end, job.plan.looks, job.plan.executed = "cancelled", job.looks + 1, job.total // 2
        return web.json_response(job.shown())

    def _advance(self, job: Job) -> None:
        job.looks += 1
        if job.looks > job.plan.looks >= 0:
            job.status = job.plan.end
            if job.status != "failed":
                self._execute(job)
        elif job.status == "validating":
            job.status = "in_progress"

    def _execute(self, job: Job) -> None:
        """Answer the lines, in an order of its own."""
        output: list[str] = []
        errors: list[str] = []
        lines = self.lines(job)
        limit = len(lines) if job.plan.executed is None else job.plan.executed
        for number, line in enumerate(random.Random(job.id).sample(lines, len(lines))):
            found: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "error": None}
            if number >= limit:
                code = "batch_expired" if job.plan.end == "expired" else "batch_cancelled"
                failure = {"code": code, "message": "This request could not be executed in time."}
                errors.append(json.dumps({**found, "response": None, "error": failure}))
                continue
            served = self._answer(line)
            if served.drop:
                continue
            ok = served.status == 200
            body = json.loads(served.encoded(self._call(line)))
            response = {"status_code": served.status, "request_id": "r", "body": body}
            # Raw text, with U+2028 and its kin as they are.
            (output if ok else errors).append(json.dumps({**found, "response": response}, ensure_ascii=False))
            self.executed[line["custom_id"]] += ok
            job.done, job.failed = job.done + ok, job.failed + (not ok)
        for name, texts in (("output_file_id", output), ("error_file_id", errors)):
            if texts:
                job.files[name] = self._stored("".join(f"{text}\n" for text in texts).encode())["id"]

    def _call(self, line: dict[str, Any]) -> Call:
        return Call(line["body"], {}, line["url"], self.asked[line["custom_id"]], self.seed)

    def _answer(self, line: dict[str, Any]) -> Served:
        assert (line["method"], line["url"]) == ("POST", _HEAD["endpoint"])
        self.asked[line["custom_id"]] += 1
        answer = self.behaviour(self._call(line))
        return answer if isinstance(answer, Served) else Served(answer)

    async def _content(self, request: web.BaseRequest, file_id: str) -> web.StreamResponse:
        content = self.files.get(file_id)
        if content is None:
            return web.json_response({"error": {"message": "no such file"}}, status=404)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = len(content)
        if self._faults["content after"] or self._faults["content before"]:
            return response
        await response.prepare(request)
        half = len(content) // 2
        await response.write(content[:half])
        await asyncio.sleep(0.01)
        gone = await asyncio.to_thread(self.at, "content half")
        if gone or (self.broken_lines and file_id not in self._interrupted):
            self._interrupted.add(file_id)
            assert request.transport is not None
            request.transport.abort()
        await response.write(content[half:])
        await response.write_eof()
        return response

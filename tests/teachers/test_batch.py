"""Batches against files and batches endpoints on the loopback: what is submitted, joined, retried, and given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer, Fault, Plan
from loopback import Behaviour, Loopback, Served

from synthkd.errors import ConfigError, TeacherUnavailable
from synthkd.record import Instruction
from synthkd.request import Message, Request
from synthkd.run import Run
from synthkd.strategies import Answer, Sample
from synthkd.teachers import OpenAITeacher, teacher_from
from synthkd.teachers.batch import Batch, Progress

Batches = Callable[..., BatchServer]


@pytest.fixture
def batches() -> Iterator[Batches]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = lambda call: call.echo, **options: Any) -> BatchServer:
            return stack.enter_context(BatchServer(behaviour, **options))

        yield start


def teacher_at(server: Loopback, key: str | None = None, **options: Any) -> OpenAITeacher:
    options = {"gather_seconds": 0.05, "poll_seconds": (0.01, 0.03), **options}
    return OpenAITeacher("m", base_url=server.url, api_key=key, batch=Batch(**options))


def questions(count: int) -> list[Instruction]:
    return [Instruction(prompt=f"q{i}") for i in range(count)]


@dataclass
class Outcome:
    """What one stage came to."""

    rows: dict[str, tuple[str, ...]]
    """Completions by prompt."""
    rejected: dict[str, str]
    """The message of each reject by prompt."""
    calls: int
    replayed: int


def sampled(folder: Path, teacher: OpenAITeacher, count: int, n: int = 2) -> Outcome:
    """Run one stage: `n` answers to each of `count` questions."""
    with Run(folder, teacher=teacher, quiet=True) as run:
        stage = run.map(Sample(n), questions(count))
        rows = {str(row.prompt): row.completions for row in stage}
        rejected = {reject.body["prompt"]: reject.detail for reject in stage.rejects}
        assert len(rows) + len(rejected) == count
        return Outcome(rows, rejected, run.counters.calls, run.counters.replayed)


def expected(indices: Sequence[int], n: int = 2) -> dict[str, tuple[str, ...]]:
    return {f"q{i}": tuple(f"answer {k} to: q{i}" for k in range(n)) for i in indices}


def sizes(server: BatchServer) -> list[int]:
    """Lines of each batch, in order of creation."""
    return [job.total for job in server.jobs.values()]


def failing(*prompts: str, **served: Any) -> Behaviour:
    """These prompts fail whenever they are asked, the others are answered."""
    return lambda call: Served(**served) if call.prompt in prompts else call.echo


def failing_once(*prompts: str, **served: Any) -> Behaviour:
    return lambda call: Served(**served) if call.prompt in prompts and call.attempt == 1 else call.echo


def test_a_stage_goes_as_one_file_with_one_line_for_all_draws_of_a_request(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    outcome = sampled(tmp_path, teacher_at(server), 20)
    assert outcome.rows == expected(range(20))
    assert (sizes(server), server.calls) == ([20], [])
    assert server.log == ["list", "upload", "create", "look", "look", "look", "content"]
    assert {line["body"]["n"] for line in server.lines(server.jobs["batch_0"])} == {2}
    assert set(server.executed.values()) == {1}


def test_files_stay_within_the_limits_on_lines_and_bytes(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    assert sampled(tmp_path / "a", teacher_at(server, most_lines=8), 20).rows == expected(range(20))
    assert sizes(server) == [8, 8, 4]
    size = max(len(line) for line in server.files["file-0"].splitlines(keepends=True))
    other = batches()
    assert sampled(tmp_path / "b", teacher_at(other, most_bytes=5 * size), 12).rows == expected(range(12))
    inputs = [other.files[job.file] for job in other.jobs.values()]
    assert sum(sizes(other)) == 12
    assert all(len(content) <= 5 * size for content in inputs)


def test_a_request_larger_than_a_file_costs_its_own_record(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    with Run(tmp_path, teacher=teacher_at(server, most_bytes=1000), quiet=True) as run:
        stage = run.map(Answer(), [Instruction(prompt="short"), Instruction(prompt="long " * 300)])
        assert [row.completion for row in stage] == ["answer 0 to: short"]
        assert ["a batch file" in reject.detail for reject in stage.rejects] == [True]


def test_answers_that_hold_line_separators_of_unicode_stay_whole(batches: Batches, tmp_path: Path) -> None:
    server = batches(lambda call: [f"one\u2028two\x85three\x0cfour {i}" for i in range(call.n)])
    rows = sampled(tmp_path, teacher_at(server), 3).rows
    assert rows["q1"] == ("one\u2028two\x85three\x0cfour 0", "one\u2028two\x85three\x0cfour 1")


def test_a_line_refused_with_400_costs_its_record_and_the_next_run_asks_only_for_it(
    batches: Batches, tmp_path: Path
) -> None:
    server = batches(failing("q2", status=400, error="too long"))
    outcome = sampled(tmp_path, teacher_at(server), 5)
    assert outcome.rows == expected([0, 1, 3, 4])
    assert list(outcome.rejected) == ["q2"]
    assert "400" in outcome.rejected["q2"]
    assert "too long" in outcome.rejected["q2"]
    server.behaviour = lambda call: call.echo
    assert sampled(tmp_path, teacher_at(server), 5).rows == expected(range(5))
    assert sizes(server) == [5, 1]
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize(
    "served",
    [{"status": 429}, {"status": 500}, {"drop": "at once"}, {"body": b'{"choices": []}'}],
    ids=["429", "500", "missing", "no completion"],
)
def test_what_a_batch_leaves_out_goes_into_the_next_one(
    batches: Batches, tmp_path: Path, served: dict[str, Any]
) -> None:
    server = batches(failing_once("q1", "q3", **served))
    assert sampled(tmp_path, teacher_at(server), 5).rows == expected(range(5))
    assert sizes(server) == [5, 2]


def test_what_stays_out_is_rejected_after_three_batches(batches: Batches, tmp_path: Path) -> None:
    server = batches(failing("q1", status=503, error="overloaded"))
    outcome = sampled(tmp_path, teacher_at(server), 4)
    assert outcome.rows == expected([0, 2, 3])
    assert "overloaded" in outcome.rejected["q1"]
    assert "in 3 batches" in outcome.rejected["q1"]
    assert sizes(server) == [4, 1, 1]


def test_the_answers_of_an_expired_batch_are_used_and_the_rest_is_asked_again(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    server.plans = [Plan("expired", executed=6)]
    assert sampled(tmp_path, teacher_at(server), 10).rows == expected(range(10))
    assert sizes(server) == [10, 4]
    assert set(server.executed.values()) == {1}


def test_a_failed_validation_costs_the_lines_that_it_names(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    server.plans = [Plan("failed", errors=[{"code": "invalid_value", "line": 2, "message": "no such field"}])]
    outcome = sampled(tmp_path, teacher_at(server), 4)
    assert outcome.rows == expected([0, 2, 3])
    assert "no such field" in outcome.rejected["q1"]
    assert sizes(server) == [4, 3]


def test_a_failed_validation_that_names_no_line_costs_all_of_them(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    server.plans = [Plan("failed", errors=[{"code": "mismatched_model", "line": None, "message": "two models"}])]
    outcome = sampled(tmp_path, teacher_at(server), 3)
    assert outcome.rows == {}
    assert all("two models" in why for why in outcome.rejected.values())


def test_a_model_that_has_no_batches_stops_the_run(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    server.plans = [Plan("failed", errors=[{"code": "model_not_found", "line": 1, "message": "no batches for m"}])]
    with pytest.raises(TeacherUnavailable, match="no batches for m"):
        sampled(tmp_path, teacher_at(server), 3)


def test_a_full_queue_is_met_with_waiting_and_smaller_files(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    full = {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached"}
    server.plans = [Plan("failed", errors=[full]), Plan("failed", errors=[full])]
    assert sampled(tmp_path, teacher_at(server), 16).rows == expected(range(16))
    assert sizes(server)[:2] == [16, 8]
    assert sum(sizes(server)[2:]) == 16
    assert max(sizes(server)[2:]) == 4
    assert set(server.executed.values()) == {1}


def test_a_queue_without_room_for_one_request_stops_the_run(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    full = {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached"}
    server.plans = [Plan("failed", errors=[full]) for _ in range(20)]
    with pytest.raises(TeacherUnavailable, match="Enqueued token limit"):
        sampled(tmp_path, teacher_at(server), 2)


FAULTS = {
    "429": Fault(429, {"retry-after-ms": "5"}),
    "500": Fault(500),
    "dropped": Fault(drop=True),
    "a page instead of JSON": Fault(200, {"Content-Type": "text/html"}, b"<html>busy</html>"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("endpoint", ["list", "upload", "create", "look"])
def test_a_fault_of_any_endpoint_is_outlived_and_nothing_is_paid_twice(
    batches: Batches, tmp_path: Path, endpoint: str, fault: str, when: str
) -> None:
    server = batches()
    server.fault(f"{endpoint} {when}", FAULTS[fault], FAULTS[fault])
    assert sampled(tmp_path, teacher_at(server), 4).rows == expected(range(4))
    assert server.log.count(endpoint) >= 2
    assert set(server.executed.values()) == {1}
    if when == "after":
        assert sizes(server) == [4]


def test_a_file_that_breaks_off_is_read_again(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    server.broken_lines = True
    server.fault("content before", FAULTS["500"])
    assert sampled(tmp_path, teacher_at(server), 30).rows == expected(range(30))
    assert (sizes(server), server.log.count("content")) == ([30], 3)


def test_a_wrong_key_stops_the_run_after_one_attempt_and_is_not_shown(batches: Batches, tmp_path: Path) -> None:
    server = batches()
    said = b'{"error": {"message": "Incorrect API key provided: sk-very-secret"}}'
    server.fault("list before", Fault(401, body=said))
    with pytest.raises(TeacherUnavailable, match="401") as caught:
        sampled(tmp_path, teacher_at(server, key="sk-very-secret"), 3)
    assert "very-secret" not in str(caught.value)
    assert server.log == ["list"]


def test_a_server_without_a_batch_api_is_named_as_such(serve: Callable[..., Loopback], tmp_path: Path) -> None:
    with pytest.raises(TeacherUnavailable, match="no batch API"):
        sampled(tmp_path, teacher_at(serve()), 3)


def test_nothing_of_the_environment_is_sent_but_the_key_that_was_given(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Private: header-private")
    caplog.set_level(logging.DEBUG)
    server = batches()
    options = Batch(gather_seconds=0.05, poll_seconds=(0.01, 0.03))
    teacher = OpenAITeacher("m", base_url=f"{server.url}?token=sk-in-query", api_key="sk-mine-only", batch=options)
    assert sampled(tmp_path, teacher, 2).rows == expected(range(2))
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-mine-only"}
    assert not any(secret in str(server.headers) for secret in ("sk-of-openai", "org-private", "header-private"))
    assert not any(secret in caplog.text for secret in ("sk-mine-only", "sk-in-query"))
    assert all(b"sk-" not in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert all(b"sk-" not in content for content in server.files.values())


def test_a_journal_filled_by_single_calls_serves_a_batch_run_and_the_other_way_round(
    batches: Batches, tmp_path: Path
) -> None:
    server = batches()
    single = OpenAITeacher("m", base_url=server.url)
    assert single.identity == teacher_at(server).identity
    sampled(tmp_path, single, 4)
    assert (len(server.calls), sizes(server)) == (4, [])
    outcome = sampled(tmp_path, teacher_at(server), 6)
    assert (outcome.rows, outcome.replayed, sizes(server)) == (expected(range(6)), 8, [2])
    assert sampled(tmp_path, single, 6).replayed == 12
    assert len(server.calls) == 4


def test_progress_is_told_to_the_log_a_callback_or_a_watcher(
    batches: Batches, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "synthkd.batch")
    told: list[Progress] = []
    said: list[str] = []
    server = batches()
    sampled(tmp_path / "a", teacher_at(server, progress=told.append), 3)
    assert (told[0].status, told[-1].status, told[-1].done, told[-1].total) == ("in_progress", "completed", 3, 3)
    assert "3 of 3 requests answered (completed)" in caplog.text
    teacher = teacher_at(server)
    teacher.watch(said.append)
    sampled(tmp_path / "b", teacher, 5)
    assert said[-1].endswith("5 of 5 requests answered (completed)")


def test_a_batch_teacher_has_a_line_and_a_price_of_its_own() -> None:
    plain, batch = (teacher_from(f"{kind}:m@http://127.0.0.1:1/v1") for kind in ("openai", "openai-batch"))
    assert isinstance(plain, OpenAITeacher)
    assert isinstance(batch, OpenAITeacher)
    assert (plain.price_factor, batch.price_factor) == (1.0, 0.5)
    assert plain.identity == batch.identity
    assert plain.limits.endpoint != batch.limits.endpoint
    assert (batch.limits.max_in_flight, batch.limits.tries) == (50_000, 1)
    with pytest.raises(ConfigError):
        Batch(poll_seconds=(2.0, 1.0))


def test_one_program_may_use_batches_on_several_loops(batches: Batches) -> None:
    server = batches()
    teacher = teacher_at(server)

    async def one(text: str) -> str:
        [completion] = await teacher.generate(Request((Message("user", text),), str))
        await teacher.aclose()
        return completion.text

    assert [asyncio.run(one(text)) for text in ("a", "b")] == ["answer 0 to: a", "answer 0 to: b"]


def test_usage_is_shared_out_as_with_single_calls(batches: Batches) -> None:
    server = batches(lambda call: Served(["a b", "c d"], usage={"prompt_tokens": 7, "completion_tokens": 4}))
    teacher = teacher_at(server)

    async def two() -> list[tuple[int, int]]:
        found = await teacher.generate(Request((Message("user", "x"),), str), 2)
        await teacher.aclose()
        return [(completion.usage.prompt_tokens, completion.usage.completion_tokens) for completion in found]

    assert asyncio.run(two()) == [(7, 2), (0, 2)]

"""Batches against files and batches endpoints on the loopback: what is gathered, submitted, joined and told."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from batch_stage import Batches, expected, sampled, sizes, teacher_at
from loopback import Served

from synthkd.errors import ConfigError
from synthkd.message import Message
from synthkd.prices import Price
from synthkd.record import Instruction
from synthkd.request import Request
from synthkd.run import Run
from synthkd.strategies import Answer, Sample
from synthkd.teachers import OpenAITeacher, teacher_from
from synthkd.teachers.batch import Batch, Progress


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
    batches: Batches, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "synthkd.batch")
    told: list[Progress] = []
    said: list[str] = []
    teacher = teacher_at(batches(), progress=told.append)
    drawn(teacher, "a", 1)
    assert [(progress.status, progress.done, progress.total) for progress in told] == [
        ("in_progress", 0, 1),
        ("completed", 1, 1),
    ]
    assert "1 of 1 requests answered (completed)" in caplog.text
    teacher.watch(said.append)
    drawn(teacher, "b", 1)
    assert said[-1].endswith("1 of 1 requests answered (completed)")
    assert len(told) == 4


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


def drawn(teacher: OpenAITeacher, text: str, n: int) -> list[tuple[str, int, int]]:
    """Text and tokens of `n` draws, on a loop of their own."""

    async def draw() -> list[tuple[str, int, int]]:
        try:
            found = await teacher.generate(Request((Message("user", text),), str), n)
            return [(c.text, c.usage.prompt_tokens, c.usage.completion_tokens) for c in found]
        finally:
            await teacher.aclose()

    return asyncio.run(draw())


def test_one_program_may_use_batches_on_several_loops(batches: Batches) -> None:
    teacher = teacher_at(batches())
    assert [drawn(teacher, text, 1)[0][0] for text in ("a", "b")] == ["answer 0 to: a", "answer 0 to: b"]


def test_usage_is_shared_out_as_with_single_calls(batches: Batches) -> None:
    server = batches(lambda call: Served(["a b", "c d"], usage={"prompt_tokens": 7, "completion_tokens": 4}))
    assert drawn(teacher_at(server), "x", 2) == [("a b", 7, 2), ("c d", 0, 2)]


def test_a_batch_costs_half_of_what_single_calls_cost(batches: Batches, tmp_path: Path) -> None:
    server = batches(lambda call: Served(["a", "b"], usage={"prompt_tokens": 1000, "completion_tokens": 500}))
    costs = []
    for name, batch in (("single", False), ("batch", Batch(gather_seconds=0.05, poll_seconds=(0.01, 0.03)))):
        teacher = OpenAITeacher("m", base_url=server.url, price=Price(1.0, 2.0), batch=batch)
        with Run(tmp_path / name, teacher=teacher, quiet=True) as run:
            run.map(Sample(2), [Instruction(prompt="q")])
            costs.append(run.counters.cost)
    assert costs == pytest.approx([0.002, 0.001])

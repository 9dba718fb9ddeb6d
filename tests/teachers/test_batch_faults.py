"""Batches whose lines, files, validation or endpoints fail: what is asked again, what is given up, what stops a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_server import Fault, Plan
from batch_stage import Batches, expected, sampled, sizes, teacher_at
from loopback import Behaviour, Loopback, Served

from synthkd.errors import TeacherUnavailable


def failing(*prompts: str, **served: Any) -> Behaviour:
    """These prompts fail whenever they are asked, the others are answered."""
    return lambda call: Served(**served) if call.prompt in prompts else call.echo


def failing_once(*prompts: str, **served: Any) -> Behaviour:
    return lambda call: Served(**served) if call.prompt in prompts and call.attempt == 1 else call.echo


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
@pytest.mark.parametrize("endpoint", ["list", "upload", "create", "look"])
def test_the_faults_of_any_endpoint_are_outlived_and_nothing_is_paid_twice(
    batches: Batches, tmp_path: Path, endpoint: str, when: str
) -> None:
    for number, fault in enumerate(FAULTS.values()):
        server = batches()
        server.fault(f"{endpoint} {when}", fault)
        assert sampled(tmp_path / str(number), teacher_at(server), 4).rows == expected(range(4))
        assert (sizes(server), set(server.executed.values())) == ([4], {1})


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

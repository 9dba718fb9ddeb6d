"""Replies and rows that fail: what they cost, what becomes of them, and what the next run does about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import Call, Loopback, Served
from pydantic import BaseModel, Field

from synthkd.errors import TeacherUnavailable
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Instruction
from synthkd.request import Policy, Sampling
from synthkd.run import Run
from synthkd.stage import Stage
from synthkd.strategies import Answer, Rank, Rationale, Sample
from synthkd.teachers import OpenAITeacher

Serve = Callable[..., Loopback]


def teacher_at(server: Loopback, **options: Any) -> OpenAITeacher:
    teacher = OpenAITeacher("m", base_url=server.url, **{"tries": 2, **options})
    teacher.limits = replace(teacher.limits, longest_wait=0.01)
    return teacher


def instructions(*prompts: str) -> list[Instruction]:
    return [Instruction(prompt=prompt) for prompt in prompts]


def reasons(stage: Stage[Any]) -> list[tuple[str, str]]:
    """Each reject's prompt and reason."""
    return [(reject.body["prompt"], reject.reason) for reject in stage.rejects]


# --- 5: 400 and 401 ---------------------------------------------------------------------------------------------------


def test_a_key_that_is_revoked_on_the_way_stops_the_run_and_with_a_new_one_only_the_rest_is_asked(
    serve: Serve, tmp_path: Path
) -> None:
    def revoked(call: Call) -> Served | list[str]:
        wrong = call.headers.get("Authorization") != "Bearer new" and int(call.prompt) >= 10
        return Served(status=401, error="revoked") if wrong else call.echo

    server = serve(revoked)
    prompts = [str(i) for i in range(30)]
    with (
        pytest.raises(TeacherUnavailable, match=r"answered 401 .* revoked The key is missing or wrong"),
        Run(tmp_path, teacher=teacher_at(server, api_key="old"), records_in_flight=4, quiet=True) as run,
    ):
        run.map(Answer(), instructions(*prompts))
    assert len(server.calls) <= 10 + 2 * 4
    server.forget()
    with Run(tmp_path, teacher=teacher_at(server, api_key="new"), quiet=True) as run:
        assert len(run.map(Answer(), instructions(*prompts))) == 30
    assert sorted(server.prompts, key=int) == prompts[10:]


# --- 6: one failing row -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Served(status=400), Served(status=500), Served(body=b"<html>"), Served("x", drop="midway")],
    ids=["400", "500", "no JSON", "reset"],
)
def test_one_failing_row_costs_one_row_and_the_next_run_asks_only_for_it(
    serve: Serve, tmp_path: Path, fault: Served
) -> None:
    broken = True
    server = serve(lambda call: fault if broken and call.prompt == "3" else call.echo)
    prompts = [str(i) for i in range(8)]
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        stage = run.map(Sample(2), instructions(*prompts))
        assert [row.prompt for row in stage] == [prompt for prompt in prompts if prompt != "3"]
        assert reasons(stage) == [("3", "teacher error")]
    server.forget()
    broken = False
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        stage = run.map(Sample(2), instructions(*prompts))
        assert [row.prompt for row in stage] == prompts
    assert server.prompts == ["3"]


def test_what_was_on_its_way_for_a_failing_row_is_kept_and_not_bought_again(serve: Serve, tmp_path: Path) -> None:
    broken = True

    def judge(call: Call) -> Served:
        if "refused" in call.prompt:
            return Served(status=400) if broken else Served('{"reason": "so", "score": 5}')
        return Served('{"reason": "so", "score": 1}', delay=0.1)

    server = serve(judge)
    records = [Candidates(prompt="p", completions=("refused", "b", "c"))]
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        assert reasons(run.map(Rank(), records)) == [("p", "teacher error")]
    assert len(server.calls) == 3
    server.forget()
    broken = False
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        assert [pair.chosen for pair in run.map(Rank(), records)] == ["refused"]
    assert len(server.calls) == 1


def test_a_bad_server_costs_tries_and_no_row(serve: Serve, tmp_path: Path) -> None:
    faults = (
        Served(status=429, headers={"retry-after-ms": "3"}),
        Served(status=503),
        Served(body=b'{"choices": [{"index"'),
        Served("cut off", drop="midway"),
        Served(drop="at once"),
    )

    def bad(call: Call) -> Served | list[str]:
        rng = call.rng
        return rng.choice(faults) if call.attempt < 6 and rng.random() < 0.4 else call.echo

    server, well = serve(bad, seed=3), serve(seed=3)
    rows = []
    for place, at in (("bad", server), ("well", well)):
        with Run(tmp_path / place, teacher=teacher_at(at, tries=8), quiet=True) as run:
            stage = run.map(Rank(), run.map(Sample(3), instructions(*(str(i) for i in range(60)))))
            rows.append(([row.model_dump() for row in stage], reasons(stage), stage.ledger))
    assert rows[0] == rows[1]
    assert len(server.calls) > 1.3 * len(well.calls)
    paid = [call.key for call in server.calls if bad(call) == call.echo]
    assert len(paid) == len(set(paid)) == len(well.calls)


# --- 7: cut replies ---------------------------------------------------------------------------------------------------


class Verdict(BaseModel):
    """A typed reply."""

    why: str
    score: int = Field(ge=1, le=5)


def cut_below(tokens: int, whole: str) -> Callable[[Call], Served]:
    """A server whose reply needs so many tokens."""

    def behaviour(call: Call) -> Served:
        enough = call.body["max_tokens"] >= tokens
        return Served(whole if enough else whole[:9], choice={"finish_reason": "stop" if enough else "length"})

    return behaviour


def answers(server: Loopback, folder: Path, truncated: Any, limit: int = 10) -> tuple[list[str], str, int]:
    """Completions, ledger and number of calls of a run on two prompts."""
    server.forget()
    strategy = Answer(sampling=Sampling(max_tokens=limit), policy=Policy(truncated=truncated))
    with Run(folder, teacher=teacher_at(server), quiet=True) as run:
        stage = run.map(strategy, instructions("a", "b"))
        return [row.completion for row in stage], str(stage.ledger), len(server.calls)


def test_a_cut_reply_is_rejected_as_such_and_not_bought_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(cut_below(100, "a long answer"))
    assert answers(server, tmp_path, "reject") == ([], "2 in, 0 out, 2 rejected (2 truncated)", 2)
    assert answers(server, tmp_path, "reject") == ([], "2 in, 0 out, 2 rejected (2 truncated)", 0)


def test_a_policy_to_keep_cut_replies_takes_those_that_are_paid_for(serve: Serve, tmp_path: Path) -> None:
    server = serve(cut_below(100, "a long answer"))
    answers(server, tmp_path, "reject")
    assert answers(server, tmp_path, "keep") == (["a long an", "a long an"], "2 in, 2 out", 0)


def test_a_policy_to_extend_raises_the_limit_once_and_only_once(serve: Serve, tmp_path: Path) -> None:
    server = serve(cut_below(20, "a long answer"))
    answers(server, tmp_path, "reject")
    assert answers(server, tmp_path, "extend") == (["a long answer"] * 2, "2 in, 2 out", 2)
    assert {call.body["max_tokens"] for call in server.calls} == {20}
    assert answers(server, tmp_path, "extend") == (["a long answer"] * 2, "2 in, 2 out", 0)
    server.behaviour = cut_below(1000, "a long answer")
    assert answers(server, tmp_path, "extend", 50) == ([], "2 in, 0 out, 2 rejected (2 truncated)", 4)
    assert answers(server, tmp_path, "extend", 50) == ([], "2 in, 0 out, 2 rejected (2 truncated)", 0)


def typed(text: str, **sampling: Any) -> Any:
    """A strategy that asks for a verdict, with the policy that would keep cut texts."""
    prompt = Prompt("labeling/answer", Verdict)

    async def judged(record: Instruction, ask: Any) -> list[Demonstration]:
        request = prompt.render(instruction=text, sampling=Sampling(**sampling), policy=Policy(truncated="keep"))
        verdict = await ask(request)
        return [Demonstration(prompt=record.prompt, completion=f"{verdict.why} {verdict.score}")]

    return judged


@pytest.mark.parametrize("finish", ["length", "stop"])
@pytest.mark.parametrize(
    "cut", ['{"why": "so', '{"why": "so", "score": 4', '{"why": "so", "score": ', '```json\n{"why": "a']
)
def test_json_that_was_cut_is_never_completed_and_never_becomes_a_row(
    serve: Serve, tmp_path: Path, cut: str, finish: str
) -> None:
    server = serve(lambda call: Served(cut, choice={"finish_reason": finish}))
    for calls in (1, 0):
        server.forget()
        with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
            stage = run.map(typed("x"), instructions("x"))
            assert (list(stage), reasons(stage)) == ([], [("x", "truncated")])
        assert len(server.calls) == calls


# --- 9: invalid JSON --------------------------------------------------------------------------------------------------


def test_json_with_local_damage_costs_no_further_call(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: "Here you are:\n```json\n{'why': 'it\\'s so', 'score': 4,}\n```\nAnything else?")
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        assert [row.completion for row in run.map(typed("x"), instructions("x"))] == ["it's so 4"]
    assert len(server.calls) == 1


def test_an_invalid_reply_is_asked_again_with_the_validation_error(serve: Serve, tmp_path: Path) -> None:
    bad, good = '{"why": "so", "score": 9}', '{"why": "so", "score": 5}'
    server = serve(lambda call: good if len(call.body["messages"]) > 1 else bad)
    for calls in (2, 0):
        server.forget()
        with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
            assert [row.completion for row in run.map(typed("x"), instructions("x"))] == ["so 5"]
        assert len(server.calls) == calls
        if calls:
            _, said, complaint = server.calls[1].body["messages"]
            assert (said["role"], said["content"]) == ("assistant", bad)
            assert "score: Input should be less than or equal to 5" in complaint["content"]
            assert "9" in complaint["content"]


@pytest.mark.parametrize("repairs", [0, 1, 3])
def test_repair_turns_are_bounded_counted_and_not_bought_again(serve: Serve, tmp_path: Path, repairs: int) -> None:
    server = serve(lambda call: f"I will not say. {len(call.body['messages'])}")
    strategy = Rationale(policy=Policy(repairs=repairs))
    for calls in (2 * (1 + repairs), 0):
        server.forget()
        with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
            stage = run.map(strategy, instructions("a", "b"))
            assert reasons(stage) == [("a", "unreadable reply"), ("b", "unreadable reply")]
            assert run.counters.repairs == 2 * repairs
        assert len(server.calls) == calls
        assert json.loads((tmp_path / "report.json").read_text())["this_process"]["repairs"] == 2 * repairs


def test_the_trace_of_an_unreadable_reply_is_kept(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: "I will not say.")
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        [reject] = run.map(Rationale(), instructions("a")).rejects
        assert "no JSON object" in reject.detail
        texts = run._database.read("SELECT text FROM calls")
    assert texts == [("I will not say.",)] * 2


# --- 12: reasoning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "served",
    [
        Served("42", message={"reasoning": "6 x 7"}),
        Served("42", message={"reasoning_content": "6 x 7"}),
        Served("<think>6 x 7</think>\n42"),
        Served("6 x 7\n</think>\n\n42"),
    ],
    ids=["reasoning", "reasoning_content", "think", "only the end of think"],
)
def test_reasoning_is_a_column_beside_the_completion_whoever_the_provider_is(
    serve: Serve, tmp_path: Path, served: Served
) -> None:
    server = serve(lambda call: served)
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        [row] = run.map(Answer(), instructions("a"))
        assert (row.completion, row.reasoning) == ("42", "6 x 7")
        [candidates] = run.map(Sample(1), instructions("b"))
        assert (candidates.completions, candidates.reasonings) == (("42",), ("6 x 7",))


def test_reasoning_reaches_the_dataset_as_a_column_or_before_the_completion(serve: Serve, tmp_path: Path) -> None:
    from datasets import load_dataset

    server = serve(lambda call: Served("42", message={"reasoning": "6 x 7"}))
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        stage = run.map(Answer(), instructions("a"))
        places = [run.save(stage, tmp_path / form, reasoning=form) for form in ("column", "think")]
    column, think = (load_dataset(str(place), split="train", cache_dir=str(tmp_path / "cache"))[0] for place in places)
    assert (column["completion"][0]["content"], column["reasoning"]) == ("42", "6 x 7")
    assert think["completion"][0]["content"] == "<think>\n6 x 7\n</think>\n\n42"


def test_a_typed_reply_after_thinking_is_read_and_the_thinking_kept(serve: Serve, tmp_path: Path) -> None:
    said = '<think>Maybe {"reasoning": "no"}?</think>{"reasoning": "6 x 7", "answer": "42"}'
    server = serve(lambda call: said)
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        [row] = run.map(Rationale(), instructions("a"))
        assert (row.completion, row.reasoning) == ("42", 'Maybe {"reasoning": "no"}?\n\n6 x 7')


def test_thinking_that_never_ends_leaves_no_answer(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: "<think>6 x 7 is, well")
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        assert reasons(run.map(Answer(), instructions("a"))) == [("a", "empty reply")]


# --- 15: the judge abstains -------------------------------------------------------------------------------------------


def test_a_judge_that_cannot_be_read_abstains_and_no_pair_is_made_up(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: "Hard to say, both are nice.")
    records = [Candidates(prompt=str(i), completions=("x", "y")) for i in range(20)]
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        stage = run.map(Rank(), records)
        assert list(stage) == []
        assert {reason for _, reason in reasons(stage)} == {"judge abstained"}
        assert stage.ledger.dropped == {"verdict unreadable reply": 40}


def test_a_candidate_without_a_readable_verdict_takes_no_part_and_equal_scores_are_no_pair(
    serve: Serve, tmp_path: Path
) -> None:
    scores = {"good": 5, "bad": 2, "fair": 4}

    def judge(call: Call) -> str:
        candidate = next(m["content"] for m in call.body["messages"] if m["role"] == "user").split()[-1]
        return f'{{"reason": "so", "score": {scores[candidate]}}}' if candidate in scores else "???"

    server = serve(judge)
    records = [
        Candidates(prompt="p", completions=("unclear", "bad", "good", "fair")),
        Candidates(prompt="q", completions=("unclear", "good")),
        Candidates(prompt="r", completions=("good", "good")),
    ]
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        stage = run.map(Rank(), records)
        [pair] = stage
        assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) == ("good", "bad", 5.0, 2.0)
        assert reasons(stage) == [("q", "judge abstained"), ("r", "tie")]

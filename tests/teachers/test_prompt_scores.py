"""Scores of given texts: from a server that tells prompt_logprobs as vLLM does, from a pool, and a clear no."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Call, Loopback, Served

from synthkd.ask import Ask
from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable, Transient
from synthkd.message import Message
from synthkd.record import Demonstration, Record
from synthkd.request import Scorer
from synthkd.run import Run
from synthkd.teachers import OpenAITeacher, TeacherPool
from synthkd.teachers.prompt_scores import scores_after
from synthkd.testing import FunctionTeacher

Serve = Callable[..., Loopback]
ASKED = (Message("system", "Be brief."), Message("user", "2 + 2?"))


def rendered(call: Call) -> str:
    """The prompt as a chat template would have it."""
    turns = "".join(f"<{m['role']}>{m['content']}<end>" for m in call.body["messages"])
    if call.body["continue_final_message"]:
        return turns.removesuffix("<end>")
    return turns + "<assistant>" if call.body["add_generation_prompt"] else turns


def probability(token: str) -> float:
    return -len(token) / 8


def like_vllm(call: Call) -> Served:
    """Words and spaces are tokens, and the longer the less likely."""
    assert call.body["prompt_logprobs"] == 0
    assert call.body["max_tokens"] == 1
    tokens = re.findall(r"<\w+>|\s|[^\s<]+", rendered(call))
    told = [None] + [{str(hash(token)): {"logprob": probability(token), "rank": 1}} for token in tokens[1:]]
    message = {"role": "assistant", "content": "x"}
    choice = {"index": 0, "finish_reason": "length", "message": message}
    return Served(body=json.dumps({"model": "m", "choices": [choice], "prompt_logprobs": told}).encode())


def score(teacher: Any, completion: str, messages: tuple[Message, ...] = ASKED) -> list[float]:
    async def once() -> list[float]:
        try:
            found: list[float] = await teacher.score(messages, completion)
            return found
        finally:
            await teacher.aclose()

    return asyncio.run(once())


def test_the_tokens_of_the_completion_alone_are_told(serve: Serve) -> None:
    server = serve(like_vllm)
    teacher = OpenAITeacher("m", base_url=server.url)
    assert isinstance(teacher, Scorer)
    assert score(teacher, "it is four") == [probability(token) for token in ("it", " ", "is", " ", "four")]
    without, whole = server.calls
    assert [m["content"] for m in without.body["messages"]] == ["Be brief.", "2 + 2?"]
    assert whole.body["messages"][-1] == {"role": "assistant", "content": "it is four"}
    assert whole.body["continue_final_message"]
    assert not whole.body["add_generation_prompt"]


def test_a_last_assistant_turn_is_gone_on_with(serve: Serve) -> None:
    server = serve(like_vllm)
    turns = (*ASKED, Message("assistant", "it is "))
    assert score(OpenAITeacher("m", base_url=server.url), "four", turns) == [probability("four")]
    assert server.calls[0].body["messages"][-1]["content"] == "it is "
    assert server.calls[1].body["messages"][-1]["content"] == "it is four"


def test_nothing_is_asked_about_an_empty_completion(serve: Serve) -> None:
    server = serve(like_vllm)
    assert score(OpenAITeacher("m", base_url=server.url), "") == []
    assert not server.calls


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda call: call.echo, id="left out"),
        pytest.param(
            Served(status=400, error="Unrecognized request arguments supplied: add_generation_prompt, prompt_logprobs"),
            id="refused",
        ),
    ],
)
def test_a_server_that_does_not_tell_them_is_a_matter_of_configuration(serve: Serve, answer: Any) -> None:
    server = serve(answer if callable(answer) else lambda call: answer)
    with pytest.raises(ConfigError, match=r"prompt_logprobs.*vLLM, or a LocalTeacher"):
        score(OpenAITeacher("m", base_url=server.url), "four")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Served(status=400, error="This model's maximum context length is 4096 tokens."), TeacherError),
        (Served(status=503, error="prompt_logprobs overloaded"), Transient),
        (Served(status=401, error="no"), TeacherUnavailable),
        (Served(body=b'{"prompt_logprobs": [null, {"1": {}}]}'), Transient),
        (Served(body=b'{"prompt_logprobs": [null, null]}'), Transient),
        (Served(body=b'{"prompt_logprobs": 3}'), Transient),
    ],
)
def test_other_failures_are_those_of_a_completion(serve: Serve, answer: Served, error: type[Exception]) -> None:
    server = serve(lambda call: answer)
    with pytest.raises(error) as raised:
        score(OpenAITeacher("m", base_url=server.url), "four")
    assert raised.type is error


async def scored(record: Demonstration, ask: Ask) -> list[Record]:
    found = await ask.score(record.messages, record.completion)
    return [record.model_copy(update={"parents": (record.id,), "meta": {"loss": -sum(found)}})]


def test_a_run_asks_for_each_score_once_and_a_passing_fault_costs_a_try(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: Served(status=500) if call.attempt == 1 else like_vllm(call))
    records = [Demonstration(prompt=str(n), completion="one two") for n in range(5)]
    rows = []
    for _ in range(2):
        student = OpenAITeacher("m", base_url=server.url)
        with Run(tmp_path / "run", student=student, quiet=True) as run:
            rows.append(list(run.map(scored, records)))
        assert len(server.calls) == 5 * 5  # of the two calls for a score, the first is made again with the second
    assert rows[0] == rows[1]
    assert [row.meta["loss"] for row in rows[0]] == [7 / 8] * 5


def test_a_pool_asks_the_member_that_is_there(serve: Serve) -> None:
    server, dead = serve(like_vllm), "http://127.0.0.1:9/v1"
    pool = TeacherPool([OpenAITeacher("m", base_url=dead), OpenAITeacher("m", base_url=server.url)])
    assert score(pool, "four") == [probability("four")]


def test_a_pool_with_a_member_that_cannot_score_says_so() -> None:
    with pytest.raises(ConfigError, match="cannot score texts"):
        score(TeacherPool([FunctionTeacher(lambda _: "x")]), "four")


def test_the_batch_api_gives_no_scores() -> None:
    with pytest.raises(ConfigError, match="batch API"):
        score(OpenAITeacher("m", base_url="http://127.0.0.1:9/v1", batch=True), "four")


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("xyz")))
def test_what_follows_the_common_beginning_is_scored(prompt: list[str], opened: list[str], told: list[str]) -> None:
    given_tokens = [(token, -1.0) for token in [*prompt, *("<" + token for token in opened)]]
    whole = [(token, -1.0) for token in prompt] + [(token, -2.0) for token in told]
    assert scores_after(given_tokens, whole) == [-2.0] * len(told)


@cache
def _student(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.train
def test_a_model_behind_a_server_scores_as_the_same_model_on_this_machine(
    serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import torch
    from tiny_models import save_model

    from synthkd.teachers import LocalTeacher

    folder = save_model(tmp_path_factory.mktemp("models") / "scored")

    def behaviour(call: Call) -> Served:
        model, tokenizer = _student(folder)
        text = tokenizer.apply_chat_template(
            call.body["messages"],
            tokenize=False,
            add_generation_prompt=call.body["add_generation_prompt"],
            continue_final_message=call.body["continue_final_message"],
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            values = model(ids).logits[0, :-1].float().log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        told = [{str(n): {"logprob": v}} for n, v in zip(ids[0, 1:].tolist(), values.tolist(), strict=True)]
        return Served(body=json.dumps({"choices": [], "prompt_logprobs": [None, *told]}).encode())

    for completion in ("He has 3 + 4 = 7 apples.", "Ünïcödé 猫 🐈", " \n"):
        there = score(OpenAITeacher("m", base_url=serve(behaviour).url), completion)
        assert there == pytest.approx(score(LocalTeacher(folder), completion), abs=1e-4)
        assert there

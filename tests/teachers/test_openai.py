"""OpenAITeacher against a real server on the loopback: every fault it must survive, and every field it must read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from loopback import Behaviour, Call, Loopback, Served
from pydantic import BaseModel, Field

from synthkd.errors import (
    ConfigError,
    EmptyReply,
    ParseError,
    Refused,
    TeacherError,
    TeacherUnavailable,
    Transient,
    Truncated,
)
from synthkd.message import Message
from synthkd.record import Demonstration, Instruction
from synthkd.reply import parse
from synthkd.request import Completion, Request, Sampling, Usage
from synthkd.run import Run
from synthkd.stage import Reject
from synthkd.strategies import Answer, Sample
from synthkd.teachers import OpenAITeacher, teacher_from

Serve = Callable[..., Loopback]


class Verdict(BaseModel):
    """A typed reply."""

    why: str
    score: int = Field(ge=1, le=5)


def teacher_at(server: Loopback, **options: Any) -> OpenAITeacher:
    """A teacher whose pauses between tries are too short to be noticed."""
    teacher = OpenAITeacher("m", base_url=server.url, **options)
    teacher.limits = replace(teacher.limits, longest_wait=0.01)
    return teacher


def asked(text: str = "hello", reply: type[Any] = str, **sampling: Any) -> Request[Any]:
    return Request((Message("user", text),), reply, Sampling(**sampling))


def generate(teacher: OpenAITeacher, request: Request[Any] | None = None, n: int = 1) -> list[Completion]:
    """One call on a loop of its own."""

    async def once() -> list[Completion]:
        try:
            return await teacher.generate(request or asked(), n)
        finally:
            await teacher.aclose()

    return asyncio.run(once())


def answers(
    folder: Path, teacher: OpenAITeacher, *prompts: str, width: int = 64
) -> tuple[list[Demonstration], list[Reject]]:
    """Rows and rejects of a run of `Answer`."""
    with Run(folder, teacher=teacher, records_in_flight=width, quiet=True) as run:
        stage = run.map(Answer(), [Instruction(prompt=prompt) for prompt in prompts])
        return list(stage), list(stage.rejects)


def first_then_well(fault: Served) -> Behaviour:
    """The fault at the first attempt, a good answer at the second."""
    return lambda call: fault if call.attempt == 1 else call.echo


# --- faults that another try cures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Served(status=408), id="408"),
        pytest.param(Served(status=409), id="409"),
        pytest.param(Served(status=429), id="429 without Retry-After"),
        pytest.param(Served(status=500), id="500"),
        pytest.param(Served(status=502, body=b"<html>bad gateway</html>"), id="502 with HTML"),
        pytest.param(Served(status=503, headers={"Retry-After": "0"}), id="503 with Retry-After 0"),
        pytest.param(Served(drop="at once"), id="reset before the answer"),
        pytest.param(Served("half an answer", drop="midway"), id="reset mid-body"),
        pytest.param(Served(body=b'{"choices": [{"index": 0, "mess'), id="truncated JSON body"),
        pytest.param(Served(body=b"<html>hello</html>", headers={"Content-Type": "text/html"}), id="HTML with 200"),
        pytest.param(Served(body=b""), id="empty body"),
        pytest.param(Served(body=b"[" * 100_000), id="a body nested without end"),
        pytest.param(Served(body=b'{"choices": []}'), id="no choices"),
        pytest.param(Served(body=b'{"error": {"message": "overloaded"}}'), id="an error with 200"),
        pytest.param(Served(body=b'{"choices": [{"message": {"content": {"a": 1}}}]}'), id="content that is no text"),
        pytest.param(Served("x", headers={"Content-Encoding": "gzip"}), id="gzip that is none"),
    ],
)
def test_a_passing_fault_costs_one_more_try_and_nothing_else(serve: Serve, tmp_path: Path, fault: Served) -> None:
    server = serve(first_then_well(fault))
    rows, rejects = answers(tmp_path, teacher_at(server), "hello")
    assert ([row.completion for row in rows], rejects) == (["answer 0 to: hello"], [])
    assert [call.attempt for call in server.calls] == [1, 2]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
    ],
)
def test_the_silence_a_429_asks_for_is_read_in_every_form(
    serve: Serve, headers: dict[str, str], seconds: float | None
) -> None:
    server = serve(lambda call: Served(status=429, headers=headers, error="slow down"))
    with pytest.raises(Transient, match="answered 429: slow down") as caught:
        generate(teacher_at(server))
    assert caught.value.retry_after == seconds


def test_the_silence_a_429_asks_for_may_be_a_date(serve: Serve) -> None:
    soon = formatdate(time.time() + 3600, usegmt=True)
    server = serve(lambda call: Served(status=429, headers={"Retry-After": soon}))
    with pytest.raises(Transient) as caught:
        generate(teacher_at(server))
    assert caught.value.retry_after == pytest.approx(3600, abs=60)


def test_nothing_is_sent_before_the_time_that_a_429_asks_for(serve: Serve, tmp_path: Path) -> None:
    slow_down = Served(status=429, headers={"retry-after-ms": "300"})
    server = serve(lambda call: slow_down if call is server.calls[0] else Served(call.echo, delay=0.02))
    rows, _ = answers(tmp_path, teacher_at(server, max_in_flight=2), *(str(i) for i in range(8)))
    assert len(rows) == 8
    refused = server.calls[0].done
    assert refused is not None
    assert all(call.at >= refused + 0.28 for call in server.calls[2:]), "the first two were on their way already"


def test_a_call_that_takes_too_long_is_given_up_and_tried_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(first_then_well(Served("late", delay=30)))
    rows, _ = answers(tmp_path, teacher_at(server, timeout=0.2), "hello")
    assert [row.completion for row in rows] == ["answer 0 to: hello"]


def test_the_timeout_counts_to_the_last_byte_so_a_trickle_does_not_hold_a_place_for_ever(serve: Serve) -> None:
    server = serve(lambda call: Served("slowly", trickle=0.05))
    began = time.monotonic()
    with pytest.raises(Transient, match=r"no complete answer within 0\.3 s"):
        generate(teacher_at(server, timeout=0.3))
    assert time.monotonic() - began < 2


def test_a_host_that_swallows_the_connection_counts_as_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, socket.socket() as one, socket.socket() as two:
        place = listening.getsockname()
        for waiting in (one, two):  # nobody accepts: after these two, the queue is full
            waiting.setblocking(False)
            waiting.connect_ex(place)
        with pytest.raises(Transient, match="no connection within") as caught:
            generate(OpenAITeacher("m", base_url=f"http://127.0.0.1:{place[1]}/v1", timeout=0.4))
    assert caught.value.unreachable


def test_a_fault_that_stays_costs_its_record_after_so_many_tries(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: Served(status=503, error="no worker") if call.prompt == "bad" else call.echo)
    rows, rejects = answers(tmp_path, teacher_at(server, tries=3), "good", "bad")
    assert [row.prompt for row in rows] == ["good"]
    assert [reject.reason for reject in rejects] == ["teacher error"]
    assert "answered 503: no worker (after 3 tries)" in rejects[0].detail
    assert server.prompts.count("bad") == 3


def test_what_is_no_chat_completion_is_shown_in_the_reject(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: Served(body=b"<html>Welcome to nginx!"))
    _, rejects = answers(tmp_path, teacher_at(server, tries=1), "a")
    assert "no chat completion" in rejects[0].detail
    assert "Welcome to nginx!" in rejects[0].detail


def test_an_endpoint_where_nothing_ever_answered_stops_the_run_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    teacher = OpenAITeacher("m", base_url=url, tries=2)
    teacher.limits = replace(teacher.limits, longest_wait=0.01)
    with pytest.raises(TeacherUnavailable, match=rf"nothing answers at {url}.*Is the server running"):
        answers(tmp_path, teacher, "hello")


def test_an_endpoint_that_fails_for_everybody_stops_the_run_instead_of_rejecting_every_record(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda call: Served(status=500, error="out of memory"))
    with pytest.raises(TeacherUnavailable, match=r"16 calls in a row failed 2 times each.*out of memory"):
        answers(tmp_path, teacher_at(server, tries=2), *(str(i) for i in range(200)), width=4)
    assert len(server.calls) <= 2 * (16 + 4)


# --- faults that no other try cures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_of_one_request_costs_its_own_record_and_one_attempt(
    serve: Serve, tmp_path: Path, status: int
) -> None:
    refusal = Served(status=status, error="context length exceeded")
    server = serve(lambda call: refusal if call.prompt == "long" else call.echo)
    rows, rejects = answers(tmp_path, teacher_at(server), "a", "long", "b")
    assert [row.prompt for row in rows] == ["a", "b"]
    assert [(r.body["prompt"], r.reason) for r in rejects] == [("long", "teacher error")]
    assert rejects[0].detail.endswith(f"answered {status}: context length exceeded")
    assert server.prompts.count("long") == 1


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "key is missing or wrong"), (403, "may not use this model"), (404, "model or the URL does not exist")],
)
def test_a_refusal_of_everybody_stops_the_run_at_the_first_answer_and_names_the_cure(
    serve: Serve, tmp_path: Path, status: int, cure: str
) -> None:
    server = serve(lambda call: Served(status=status, error="go away"))
    with pytest.raises(TeacherUnavailable) as caught:
        answers(tmp_path, teacher_at(server, max_in_flight=3), *(str(i) for i in range(50)))
    said = str(caught.value)
    assert f"answered {status} for model 'm': go away" in said
    assert cure in said
    assert "SYNTHKD_API_KEY" in said
    assert "synthkd doctor" in said
    assert len(server.calls) <= 2 * 3, "what was in flight, and what was let in before the first refusal was heard"
    assert max(server.times.values()) == 1


def test_an_account_without_credit_stops_the_run_though_it_is_a_429(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: Served(status=429, code="insufficient_quota", error="You exceeded your quota"))
    with pytest.raises(TeacherUnavailable, match="no credit left: You exceeded your quota"):
        answers(tmp_path, teacher_at(server), "hello")
    assert len(server.calls) == 1


def test_a_redirect_is_not_followed_and_the_new_place_is_named(serve: Serve, tmp_path: Path) -> None:
    elsewhere = serve()
    server = serve(lambda call: Served(status=308, headers={"Location": f"{elsewhere.url}/chat/completions?x=1"}))
    with pytest.raises(TeacherUnavailable, match=rf"has moved.*base_url='{elsewhere.url}'"):
        answers(tmp_path, teacher_at(server, api_key="sk-1", headers={"X-Api-Key": "x"}), "hello")
    assert elsewhere.calls == []


def test_a_server_without_response_format_is_told_apart_with_the_cure(serve: Serve) -> None:
    server = serve(lambda call: Served(status=400, error="'response_format' is not supported"))
    with pytest.raises(TeacherError, match="pass native_schema=False"):
        generate(teacher_at(server), asked(reply=Verdict))


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_the_body_holds_what_was_set_and_nothing_else(serve: Serve) -> None:
    server = serve()
    generate(teacher_at(server))
    assert server.calls[0].body == {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    assert server.calls[0].target == "/v1/chat/completions"


def test_every_sampling_option_reaches_the_body_under_the_wire_s_name(serve: Serve) -> None:
    server = serve()
    options: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ("END", "\n"),
        "seed": 3,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logprobs": 2,
        "extra": {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}},
    }
    generate(teacher_at(server), asked(**options), n=3)
    sent = {name: value for name, value in server.calls[0].body.items() if name not in ("model", "messages")}
    assert sent == {
        "n": 3,
        "temperature": 0.0,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["END", "\n"],
        "seed": 3,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "top_k": 5,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_openai_itself_is_sent_max_completion_tokens_and_others_max_tokens() -> None:
    request = asked(max_tokens=9)
    at_openai = OpenAITeacher("gpt", api_key="sk-1").body(request)
    elsewhere = OpenAITeacher("gpt", base_url="http://127.0.0.1:1/v1").body(request)
    assert (at_openai.get("max_completion_tokens"), at_openai.get("max_tokens")) == (9, None)
    assert (elsewhere.get("max_completion_tokens"), elsewhere.get("max_tokens")) == (None, 9)


def test_a_typed_request_sends_its_schema_natively_or_in_the_prompt(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    [completion] = generate(teacher_at(server), asked(reply=Verdict))
    assert parse(completion, asked(reply=Verdict)).value.score in range(1, 6)
    form = server.calls[0].body["response_format"]["json_schema"]
    assert (form["name"], form["strict"], form["schema"]["additionalProperties"]) == ("Verdict", True, False)

    server.forget()
    server.behaviour = lambda call: '{"why": "so", "score": 4}'

    async def judged(record: Instruction, ask: Any) -> list[Demonstration]:
        verdict = await ask(asked(str(record.prompt), Verdict))
        return [Demonstration(prompt=record.prompt, completion=str(verdict.score))]

    with Run(tmp_path, teacher=teacher_at(server, native_schema=False), quiet=True) as run:
        assert run.map(judged, [Instruction(prompt="hello")])[0].completion == "4"
    assert "response_format" not in server.calls[0].body
    assert '"maximum":5' in server.prompts[0]


# --- what comes back --------------------------------------------------------------------------------------------------


def test_n_choices_come_back_in_order_of_their_index_with_the_prompt_counted_once(serve: Serve) -> None:
    def backwards(call: Call) -> Served:
        choices = [{"index": i, "message": {"content": f"c{i}"}, "finish_reason": "stop"} for i in (2, 0, 1)]
        usage = {"prompt_tokens": 10, "completion_tokens": 8}
        return Served(body=json.dumps({"choices": choices, "usage": usage}).encode())

    found = generate(teacher_at(serve(backwards)), n=3)
    assert [completion.text for completion in found] == ["c0", "c1", "c2"]
    assert [completion.usage.prompt_tokens for completion in found] == [10, 0, 0]
    assert sum(completion.usage.completion_tokens for completion in found) == 8


@pytest.mark.parametrize("given", [1, 2])
def test_a_server_that_gives_fewer_choices_is_asked_for_the_rest(serve: Serve, tmp_path: Path, given: int) -> None:
    server = serve(lambda call: [f"{call.attempt}.{i}" for i in range(min(given, call.n))])
    with Run(tmp_path, teacher=teacher_at(server), quiet=True) as run:
        [candidates] = run.map(Sample(4), [Instruction(prompt="hello")])
    assert len(candidates.completions) == 4
    assert [call.n for call in server.calls] == ([4, 1, 1, 1] if given == 1 else [4, 2])


def test_a_server_that_gives_more_choices_than_asked_for_does_no_harm(serve: Serve, tmp_path: Path) -> None:
    rows, _ = answers(tmp_path, teacher_at(serve(lambda call: ["first", "second"])), "hello")
    assert [row.completion for row in rows] == ["first"]


def test_usage_with_cached_and_reasoning_tokens_is_read_and_its_absence_is_zero(serve: Serve) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    server = serve(lambda call: Served("x", usage=usage))
    assert generate(teacher_at(server))[0].usage == Usage(100, 50, 30, 64)
    for missing in (b"null", b"{}", b'{"completion_tokens": null, "prompt_tokens_details": null}'):
        body = b'{"choices": [{"message": {"content": "x"}}], "usage": %s}' % missing
        server.behaviour = lambda call, body=body: Served(body=body)
        assert generate(teacher_at(server))[0].usage == Usage()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("42", {"reasoning": "six times seven"}),
        ("42", {"reasoning_content": "six times seven"}),
        ("42", {"reasoning_content": None, "reasoning": "six times seven"}),
        ("42", {"reasoning_content": "", "reasoning": "six times seven"}),
        ("<think>\nsix times seven\n</think>\n\n42", {}),
        ("six times seven</think>42", {}),
    ],
)
def test_reasoning_is_kept_apart_from_the_answer_however_it_comes(
    serve: Serve, content: str, message: dict[str, Any]
) -> None:
    [completion] = generate(teacher_at(serve(lambda call: Served(content, message=message))))
    reply = parse(completion, asked())
    assert (reply.value, reply.reasoning) == ("42", "six times seven")


def test_log_probabilities_come_back_token_by_token(serve: Serve) -> None:
    tokens = [
        {"token": "4", "logprob": -0.1, "top_logprobs": [{"token": "4", "logprob": -0.1}]},
        {"token": "2", "logprob": -0.2, "top_logprobs": []},
    ]
    server = serve(lambda call: Served("42", choice={"logprobs": {"content": tokens}}))
    assert generate(teacher_at(server), asked(logprobs=1))[0].logprobs == tuple(tokens)


def test_numbers_that_json_does_not_have_cost_no_completion(serve: Serve) -> None:
    body = (
        b'{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": "x", "logprob": -Infinity}]}}]}'
    )
    [completion] = generate(teacher_at(serve(lambda call: Served(body=body))))
    assert (completion.text, completion.logprobs[0]["logprob"]) == ("x", None)


def test_tool_calls_content_parts_and_the_model_s_name_are_read(serve: Serve) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    server = serve(lambda call: Served(message={"tool_calls": calls, "content": parts}, texts="-"))
    [completion] = generate(teacher_at(server))
    assert (completion.text, completion.tool_calls, completion.model) == ("ab", tuple(calls), "m")


@pytest.mark.parametrize(
    ("served", "error"),
    [
        (Served("", message={"refusal": "I cannot help with that"}), Refused),
        (Served("partly", choice={"finish_reason": "content_filter"}), Refused),
        (Served("cut in the mid", choice={"finish_reason": "length"}), Truncated),
        (Served(""), EmptyReply),
        (Served(message={"content": None}, texts="-"), EmptyReply),
    ],
)
def test_refused_cut_and_empty_replies_are_told_apart(serve: Serve, served: Served, error: type[Exception]) -> None:
    [completion] = generate(teacher_at(serve(lambda call: served)))
    with pytest.raises(error):
        parse(completion, asked())


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"why": "so", "score": 9}', ParseError),
        ('{"because": "so"}', ParseError),
        ("I would rather not say.", ParseError),
        ('{"why": "so", "sco', Truncated),
        ("[[" * 5000 + "]]" * 5000, ParseError),
        ('{"why": "so", "score": %s}' % ("9" * 6000), ParseError),
    ],
)
def test_replies_of_the_wrong_shape_are_rejects_and_never_crashes(
    serve: Serve, content: str, error: type[Exception]
) -> None:
    [completion] = generate(teacher_at(serve(lambda call: content)), asked(reply=Verdict))
    with pytest.raises(error):
        parse(completion, asked(reply=Verdict))


@pytest.mark.parametrize(
    "content",
    ['{"why": "so", "score": 4,}', "```json\n{'why': 'so', 'score': 4}\n```", 'Sure: {"why": "so", "score": 4}.'],
)
def test_json_that_is_damaged_locally_is_read(serve: Serve, content: str) -> None:
    [completion] = generate(teacher_at(serve(lambda call: content)), asked(reply=Verdict))
    assert parse(completion, asked(reply=Verdict)).value == Verdict(why="so", score=4)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("\\ud83d\\ude00", "😀"),
        ("😀 e\u0301 \u202e", "😀 e\u0301 \u202e"),
        ("half \\ud83d emoji", "half \ufffd emoji"),
        ("nul \\u0000 inside", "nul \0 inside"),
        ("line\\u2028separator", "line\u2028separator"),
    ],
)
def test_every_unicode_text_survives_the_wire_the_journal_and_the_rows(
    serve: Serve, tmp_path: Path, sent: str, kept: str
) -> None:
    body = '{"choices": [{"message": {"content": "TEXT"}, "finish_reason": "stop"}]}'.replace("TEXT", sent)
    server = serve(lambda call: Served(body=body.encode()))
    for _ in range(2):  # drawn, then replayed
        rows, rejects = answers(tmp_path, teacher_at(server), "emoji 😀 and nul \0")
        assert ([row.completion for row in rows], rejects) == ([kept], [])
    assert server.prompts == ["emoji 😀 and nul \0"]


# --- keys, URLs, proxies ----------------------------------------------------------------------------------------------


def sent_authorization(server: Loopback, **options: Any) -> str | None:
    generate(OpenAITeacher("m", **options))
    return server.calls[-1].headers.get("Authorization")


def test_the_key_comes_from_the_argument_or_from_the_endpoint_s_own_variable(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    assert sent_authorization(server, base_url=server.url) is None
    monkeypatch.setenv("SYNTHKD_API_KEY", "sk-mine")
    assert sent_authorization(server, base_url=server.url) == "Bearer sk-mine"
    assert sent_authorization(server, base_url=server.url, api_key="sk-argument\n") == "Bearer sk-argument"
    own = {"Authorization": "Token t"}
    assert sent_authorization(server, base_url=server.url, headers=own) == "Token t"
    assert sent_authorization(server, base_url=server.url, headers=own, api_key="sk-1") == "Bearer sk-1"


def test_openai_s_key_goes_to_openai_s_url_alone(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert sent_authorization(server, base_url=server.url) is None
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)  # unless the environment itself says where it belongs
    assert sent_authorization(server) == "Bearer sk-openai"
    assert sent_authorization(server, base_url=server.url) is None


def test_openai_without_a_key_is_a_mistake_found_before_any_call() -> None:
    with pytest.raises(ConfigError, match="set OPENAI_API_KEY"):
        OpenAITeacher("gpt")


def test_user_password_and_query_of_the_url_are_sent_and_are_no_part_of_the_identity(serve: Serve) -> None:
    server = serve()
    url = server.url.replace("http://", "http://me:p%40ss@") + "/?api-version=1"
    teacher = OpenAITeacher("m", base_url=url)
    generate(teacher)
    assert server.calls[0].headers["Authorization"] == "Basic bWU6cEBzcw=="
    assert server.calls[0].target == "/v1/chat/completions?api-version=1"
    assert teacher.identity == f"{server.url}#m"


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://h/v1", "http:///v1", "http://u:pa/ss@h/v1", "http://h:99999/v1"]
)
def test_a_url_that_is_none_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"[Ee]xpected one like") as caught:
        OpenAITeacher("m", base_url=url)
    assert "pa" not in str(caught.value).replace("path", "").replace("password", "")


def test_a_key_with_a_line_break_is_refused_before_any_call() -> None:
    with pytest.raises(ConfigError, match="line break"):
        OpenAITeacher("m", base_url="http://127.0.0.1:1/v1", api_key="sk-1\nX-Other: y")


def test_a_proxy_in_the_environment_is_used_and_no_proxy_is_respected(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(lambda call: "by way of the proxy"), serve()
    place = proxy.url.removeprefix("http://").removesuffix("/v1")
    for written in (f"http://{place}", place):
        monkeypatch.setenv("http_proxy", written)
        assert generate(OpenAITeacher("m", base_url="http://far.invalid/v1"))[0].text == "by way of the proxy"
    assert proxy.calls[0].target == "http://far.invalid/v1/chat/completions"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert generate(teacher_at(server))[0].text == "answer 0 to: hello"


# --- connections ------------------------------------------------------------------------------------------------------


def test_no_more_calls_fly_than_the_teacher_takes(serve: Serve, tmp_path: Path) -> None:
    most = 0

    def counted(call: Call) -> Served:
        nonlocal most
        most = max(most, len(server.open))
        return Served(call.echo, delay=0.005)

    server = serve(counted)
    rows, _ = answers(tmp_path, teacher_at(server, max_in_flight=3), *(str(i) for i in range(30)))
    assert (len(rows), most) == (30, 3)


def test_one_teacher_serves_two_open_runs_and_can_be_used_again_after_them(serve: Serve, tmp_path: Path) -> None:
    teacher = teacher_at(serve())
    with Run(tmp_path / "a", teacher=teacher, quiet=True) as a, Run(tmp_path / "b", teacher=teacher, quiet=True) as b:
        for run in (a, b, a, b):
            assert len(run.map(Answer(), [Instruction(prompt="hello")])) == 1
    assert generate(teacher)[0].text == "answer 0 to: hello"


def test_a_specification_with_a_url_makes_the_same_teacher_and_hides_what_it_cannot_read() -> None:
    teacher = teacher_from("openai:org/model@http://me:secret@127.0.0.1:1/v1")
    assert teacher.identity == "http://127.0.0.1:1/v1#org/model"
    for spec in ("opnai:m@http://me:secret@h/v1", "openai:m@me:secret@127.0.0.1:1/v1", "openai:m@ftp://me:secret@h"):
        with pytest.raises(ConfigError) as caught:
            teacher_from(spec)
        assert "secret" not in str(caught.value)


# --- the endpoint's own limits ----------------------------------------------------------------------------------------


class Window:
    """A server that takes so many calls in each stretch of time, says what is left of them, and refuses the rest."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self.ends, self.left, self.refused = 0.0, 0, 0

    def __call__(self, call: Call) -> Served:
        if call.at >= self.ends:
            self.ends, self.left = call.at + self.seconds, self.most
        self.left -= 1
        reset = {"x-ratelimit-reset-requests": f"{1000 * (self.ends - call.at):.0f}ms"}
        left = {"x-ratelimit-remaining-requests": str(max(self.left, 0)), **reset}
        if self.left < 0:
            self.refused += 1
            return Served(status=429, headers=left)
        return Served(call.echo, headers=left, delay=0.01)


def test_a_quota_that_the_server_tells_of_is_used_up_and_not_passed(serve: Serve, tmp_path: Path) -> None:
    window = Window(most=20, seconds=0.4)
    server = serve(window)
    rows, rejects = answers(tmp_path, teacher_at(server, max_in_flight=10), *(f"question {n}" for n in range(70)))
    assert (len(rows), rejects) == (70, [])
    assert window.refused == 0
    assert len(server.calls) == 70


def test_calls_per_minute_that_the_user_gave_are_kept(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    rows, _ = answers(tmp_path, teacher_at(server, rpm=1200), *(f"question {n}" for n in range(40)))
    assert len(rows) == 40
    assert server.calls[-1].at - server.calls[0].at >= 0.85  # 20 at once, then 20 a second

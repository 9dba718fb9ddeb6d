"""The wire format: choices, usage shared out, waiting times and schemas, as servers really send them."""

import math
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from synthkd.request import Usage
from synthkd.teachers.wire import completions_in, loads, quota_in, retry_after, strict_schema

steady = settings(deadline=None, derandomize=True, max_examples=100)


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i, message in enumerate(messages)]
    return {"choices": choices, **more}


@steady
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 9))
def test_what_was_billed_is_shared_out_among_the_choices_and_adds_up(
    prompt: int, new: int, thought: int, cached: int, n: int
) -> None:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "completion_tokens_details": {"reasoning_tokens": thought},
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    found = [completion.usage for completion in completions_in(body(*[{"content": "x"}] * n, usage=usage))]
    names = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
    assert [sum(getattr(share, name) for share in found) for name in names] == [prompt, new, thought, cached]
    assert all((share.prompt_tokens, share.cached_tokens) == (0, 0) for share in found[1:])
    shares = [share.completion_tokens for share in found]
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "prompt_tokens_details": None}])
def test_a_server_that_does_not_count_is_read_as_zero(usage: Any) -> None:
    assert completions_in(body({"content": "x"}, usage=usage))[0].usage == Usage()


def test_choices_are_read_in_the_order_of_their_index() -> None:
    shuffled = body({"content": "a"}, {"content": "b"}, {"content": "c"})
    shuffled["choices"].reverse()
    assert [completion.text for completion in completions_in(shuffled)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "yes"}, "yes", None),
        ({"content": None}, "", None),
        ({}, "", None),
        ({"content": [{"type": "text", "text": "ye"}, {"type": "text", "text": "s"}]}, "yes", None),
        ({"content": "yes", "reasoning_content": "hm"}, "yes", "hm"),
        ({"content": "yes", "reasoning": "hm"}, "yes", "hm"),
        ({"content": "yes", "reasoning_content": None, "reasoning": "hm"}, "yes", "hm"),
        ({"content": "yes", "reasoning": ""}, "yes", None),
        ({"content": "yes", "reasoning": {"effort": "high"}}, "yes", None),
    ],
)
def test_text_and_thinking_are_found_wherever_a_server_puts_them(
    message: dict[str, Any], text: str, reasoning: str | None
) -> None:
    [found] = completions_in(body(message))
    assert (found.text, found.reasoning) == (text, reasoning)


def test_everything_else_that_a_choice_says_is_kept() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    token = {"token": "x", "logprob": -0.5}
    [found] = completions_in(
        {
            "model": "m-2025",
            "choices": [
                {
                    "message": {"content": None, "refusal": "no", "tool_calls": [call]},
                    "finish_reason": "tool_calls",
                    "logprobs": {"content": [token]},
                }
            ],
        }
    )
    assert (found.refusal, found.tool_calls, found.logprobs) == ("no", (call,), (token,))
    assert (found.finish_reason, found.model) == ("tool_calls", "m-2025")


@pytest.mark.parametrize(
    "wrong", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [None]}, {"error": "busy"}, body({"content": 7}), []]
)
def test_a_body_that_is_no_completion_is_recognised(wrong: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, IndexError, AttributeError)):
        completions_in(wrong)


def test_half_a_character_and_numbers_that_json_does_not_know_are_survived() -> None:
    found = loads(b'{"a": "\\ud83d", "b": "\\ud83d\\ude00", "c": NaN, "d": -Infinity}')
    assert found == {"a": "\ufffd", "b": "\U0001f600", "c": None, "d": None}
    with pytest.raises(ValueError, match="Expecting value"):
        loads(b"<html>502 Bad Gateway</html>")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "20"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_the_silence_that_a_server_asks_for_is_read_in_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_as_far_away_as_it_is() -> None:
    found = retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert found is not None
    assert 25 < found <= 31


@steady
@given(
    st.text(max_size=12)
    | st.text("0123456789.e+-² infnaN", max_size=8)
    | st.sampled_from(["9e999", "inf", "nan", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 99999 23:59:59 GMT"]),
    st.sampled_from(["retry-after", "retry-after-ms"]),
)
def test_no_header_makes_the_waiting_time_fail_or_endless(value: str, name: str) -> None:
    found = retry_after({name: value})
    assert found is None or (found >= 0 and math.isfinite(found))


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("6m0s", 360.0), ("1.5s", 1.5), ("120ms", 0.12), ("1h2m3s", 3723.0), ("17", 17.0), ("0", 0.0), ("1970", 1970.0)],
)
def test_a_quota_is_what_is_left_and_when_it_is_renewed(reset: str, seconds: float) -> None:
    found = quota_in({"x-ratelimit-remaining-requests": "12", "x-ratelimit-reset-requests": reset})
    assert found is not None
    assert (found.requests, found.tokens) == (12, None)
    assert found.requests_reset - time.monotonic() == pytest.approx(seconds, abs=1)


def test_a_quota_renewed_at_a_date_is_as_far_away_as_the_date_in_seconds_or_in_milliseconds() -> None:
    for date in (f"{time.time() + 30:.0f}", f"{1000 * (time.time() + 30):.0f}"):
        found = quota_in({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": date})
        assert found is not None
        assert 25 < found.tokens_reset - time.monotonic() < 31


@steady
@given(st.text(max_size=12) | st.text("0123456789.hms-", max_size=8), st.text("0123456789-. ²", max_size=6))
def test_no_header_makes_a_quota_fail_or_endless(reset: str, left: str) -> None:
    for of in ("requests", "tokens"):
        found = quota_in({f"x-ratelimit-remaining-{of}": left, f"x-ratelimit-reset-{of}": reset})
        assert found is None or math.isfinite(found.requests_reset + found.tokens_reset)


class Leaf(BaseModel):
    says: str


class Closed(BaseModel):
    leaf: Leaf
    many: list[Leaf]


class Optional(BaseModel):
    says: str = "nothing"


class Free(BaseModel):
    notes: dict[str, str]


class Listed(RootModel[list[Leaf]]):
    pass


@pytest.mark.parametrize(
    ("reply", "strict"), [(Leaf, True), (Closed, True), (Optional, False), (Free, False), (Listed, True)]
)
def test_a_schema_is_strict_where_every_object_in_it_is_closed_and_every_field_wanted(
    reply: type[BaseModel], strict: bool
) -> None:
    assert strict_schema(reply)[1] is strict


def test_every_object_of_a_strict_schema_is_closed_against_further_fields() -> None:
    found, _ = strict_schema(Closed)
    assert found["additionalProperties"] is False
    assert found["$defs"]["Leaf"]["additionalProperties"] is False

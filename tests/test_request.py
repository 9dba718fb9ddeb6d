"""Requests: a key covers what the teacher sees and nothing else."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from synthkd.errors import ConfigError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.request import Limits, Policy, Request, Sampling, keys, schema
from synthkd.testing import FunctionTeacher

steady = settings(deadline=None, derandomize=True, max_examples=60)


class Verdict(BaseModel):
    reason: str
    score: int


class Terse(BaseModel):
    score: int


ASKED = Request((Message("system", "Be brief."), Message("user", "What is 2 + 2?")), Verdict, Sampling(temperature=0.5))
texts = st.text(st.characters(codec="utf-8"), max_size=20)
samplings = st.builds(
    Sampling,
    temperature=st.none() | st.sampled_from([0.0, 0.7, 1.0, 1]),
    top_p=st.none() | st.just(0.9),
    max_tokens=st.none() | st.integers(1, 3),
    stop=st.lists(texts, max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 2),
    extra=st.dictionaries(st.sampled_from(["top_k", "min_p"]), st.integers(0, 2)),
)

CHANGES: dict[str, Callable[[Request[Any]], Request[Any]]] = {
    "system prompt": lambda r: replace(r, messages=(Message("system", "Be brief!"), *r.messages[1:])),
    "no system prompt": lambda r: replace(r, messages=r.messages[1:]),
    "user's text": lambda r: replace(r, messages=(r.messages[0], Message("user", "What is 2 + 3?"))),
    "role of a message": lambda r: replace(r, messages=(Message("user", "Be brief."), r.messages[1])),
    "reply schema": lambda r: replace(r, reply=Terse),
    "no schema": lambda r: replace(r, reply=str),
    "temperature": lambda r: replace(r, sampling=Sampling(temperature=0.6)),
    "temperature left open": lambda r: replace(r, sampling=Sampling()),
    "token limit": lambda r: replace(r, sampling=replace(r.sampling, max_tokens=9)),
    "stop texts": lambda r: replace(r, sampling=replace(r.sampling, stop=("\n",))),
    "seed": lambda r: replace(r, sampling=replace(r.sampling, seed=1)),
    "log-probabilities": lambda r: replace(r, sampling=replace(r.sampling, logprobs=0)),
    "server's own field": lambda r: replace(r, sampling=replace(r.sampling, extra={"top_k": 5})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_the_teacher_sees_changes_the_key(change: Callable[[Request[Any]], Request[Any]]) -> None:
    assert change(ASKED).key("teacher") != ASKED.key("teacher")


def test_another_teacher_or_another_draw_has_another_key() -> None:
    assert len({ASKED.key("teacher"), ASKED.key("teacher", 1), ASKED.key("teacher", 2), ASKED.key("teacher#2")}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"policy": Policy(truncated="keep", refused="keep", empty="keep", repairs=5)},
        {"prompt": "labeling/answer@00000000"},
        {"sampling": Sampling(temperature=0.5, extra={}, stop=())},
    ],
    ids=["policy", "provenance", "defaults spelled out"],
)
def test_what_the_teacher_does_not_see_leaves_the_key_as_it_is(change: dict[str, Any]) -> None:
    assert replace(ASKED, **change).key("teacher") == ASKED.key("teacher")


def test_limits_of_the_endpoint_are_no_part_of_a_teacher_s_identity() -> None:
    gentle = FunctionTeacher(lambda _: "", limits=Limits("elsewhere", max_in_flight=1, tries=1, longest_wait=9.0))
    assert ASKED.key(gentle.identity) == ASKED.key(FunctionTeacher(lambda _: "").identity)


def test_a_key_stays_what_it_was_in_the_journals_that_people_have() -> None:
    assert ASKED.key("teacher", 3).hex() == "5d5bd2182aff64cc3bb21edda3e23a2c"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Sampling(temperature=1), Sampling(temperature=1.0)),
        (Sampling(temperature=0, top_p=1), Sampling(temperature=-0.0, top_p=1.0)),
        (Sampling(presence_penalty=2, frequency_penalty=-1), Sampling(presence_penalty=2.0, frequency_penalty=-1.0)),
        (Sampling(max_tokens=100, seed=1), Sampling(max_tokens=100.0, seed=True)),  # type: ignore[arg-type]
    ],
)
def test_equal_samplings_have_equal_keys_however_their_numbers_are_written(one: Sampling, other: Sampling) -> None:
    assert one == other
    assert replace(ASKED, sampling=one).key("t") == replace(ASKED, sampling=other).key("t")
    assert b"1.0" in Sampling(temperature=1).canonical()


def test_editing_a_template_changes_the_key_of_what_it_renders(tmp_path: Any) -> None:
    path = tmp_path / "ask.jinja"
    found = []
    for text in ("Solve {{ task }}", "Solve: {{ task }}"):
        path.write_text(f"{{# variables: task; source: this test #}}\n{{% block user %}}{text}{{% endblock %}}")
        found.append(Prompt(path, str).render(task="2 + 2").key("teacher"))
    assert found[0] != found[1]


@steady
@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), texts), min_size=1, max_size=3), samplings)
def test_equal_requests_have_equal_keys_and_all_draws_differ(turns: list[Any], sampling: Sampling) -> None:
    one, other = (Request(tuple(Message(*turn) for turn in turns), str, replace(sampling)) for _ in range(2))
    found = keys("teacher", one, range(4))
    assert found == [other.key("teacher", index) for index in range(4)]
    assert len(set(found)) == 4
    assert all(len(key) == 16 for key in found)


@steady
@given(samplings, samplings)
def test_different_samplings_have_different_keys(one: Sampling, other: Sampling) -> None:
    same = replace(ASKED, sampling=one).key("t") == replace(ASKED, sampling=other).key("t")
    assert same == (one == other)


@steady
@given(samplings, samplings)
def test_a_request_s_own_sampling_goes_before_the_teacher_s_defaults(own: Sampling, default: Sampling) -> None:
    merged = own.over(default)
    for name in ("temperature", "top_p", "max_tokens", "stop", "seed"):
        mine = getattr(own, name)
        assert getattr(merged, name) == (getattr(default, name) if mine in (None, ()) else mine)
    assert merged.extra == {**default.extra, **own.extra}


def test_greedy_decoding_and_a_chosen_token_s_log_probability_count_as_set() -> None:
    assert Sampling(temperature=0.0, logprobs=0).given() == {"temperature": 0.0, "logprobs": 0}
    assert Sampling(temperature=0.0).over(Sampling(temperature=0.8)).temperature == 0.0


def test_a_schema_loses_pydantic_s_titles_and_keeps_a_field_of_that_name() -> None:
    class Book(BaseModel):
        title: str = Field(description="As on the cover.")

    found = schema(Book)
    assert found == {
        "properties": {"title": {"description": "As on the cover.", "type": "string"}},
        "required": ["title"],
        "type": "object",
    }
    assert schema(str) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": "hot"},
        {"temperature": -1},
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"top_p": 1.5},
        {"logprobs": -1},
    ],
)
def test_a_sampling_that_no_server_could_follow_is_refused(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigError, match=re.escape(f"Sampling({name}={value!r}): expected a number")):
        Sampling(**wrong)

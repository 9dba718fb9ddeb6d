"""Replies: what a teacher writes becomes the typed value or a named reason, and never half of what it meant."""

import json
import re
import time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from synthkd.errors import EmptyReply, ParseError, RecordError, Refused, Truncated
from synthkd.message import Message
from synthkd.reply import parse, repair_turn, separate, structured, with_schema
from synthkd.request import Completion, Policy, Request, Usage


class Step(BaseModel):
    says: str
    n: int


class Plan(BaseModel):
    name: str
    tags: list[str]
    steps: list[Step]
    notes: dict[str, str]
    maybe: str | None = None
    sure: bool = True
    weight: float = 1.0


class Verdict(BaseModel):
    reason: str
    score: int


def steady(examples: int) -> settings:
    return settings(deadline=None, derandomize=True, max_examples=examples)


NASTY = "\"'{}[]:,\\/`\n\t #-1u0enrtNé€😀ab"
texts = st.text(st.sampled_from(NASTY), max_size=10) | st.text(max_size=6)
plans = st.builds(
    Plan,
    name=texts,
    tags=st.lists(texts, max_size=2),
    steps=st.lists(st.builds(Step, says=texts, n=st.integers(-(10**6), 10**6)), max_size=2),
    notes=st.dictionaries(texts, texts, max_size=2),
    maybe=st.none() | texts,
    sure=st.booleans(),
    weight=st.floats(-1e6, 1e6),
)
layouts = st.builds(
    lambda indent, plain, sort: {"indent": indent, "ensure_ascii": not plain, "sort_keys": sort},
    st.sampled_from([None, 2, "\t"]),
    st.booleans(),
    st.booleans(),
)
prose = st.text(st.sampled_from('Sure, here it is: "yes" - don\'t worry.\n\t(1) **bold** é'), max_size=30)


def dumped(plan: BaseModel, layout: dict[str, Any]) -> str:
    return json.dumps(plan.model_dump(), **layout)


def with_trailing_commas(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + "".join(f"{json.dumps(key)}: {with_trailing_commas(v)}, " for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + "".join(f"{with_trailing_commas(v)}," for v in value) + "\n]"
    return json.dumps(value, ensure_ascii=False)


def printable(value: Any) -> bool:
    """Whether Python writes every text in it without a \\x or \\U escape."""
    if isinstance(value, dict):
        return all(map(printable, [*value, *value.values()]))
    if isinstance(value, list):
        return all(map(printable, value))
    return not isinstance(value, str) or all(char.isprintable() or char in "\n\t" for char in value)


# What is whole is read.


@steady(150)
@given(plans, layouts, st.sampled_from(["", "json", "JSON", "javascript"]), prose, prose)
def test_a_reply_reads_back_equal_through_fences_prose_and_white_space(
    plan: Plan, layout: dict[str, Any], language: str, before: str, after: str
) -> None:
    body = dumped(plan, layout)
    for text in (
        body,
        f"\n  {body}\t\n",
        f"```{language}\n{body}\n```",
        f"{before}\n```{language}  \n{body}\n  ```\n{after}",
        f"```{language}\n{body}",
        f"{before}{body}{after}",
        f"{before}{body}\n\n{after}",
    ):
        assert structured(text, Plan) == plan


@steady(150)
@given(plans)
def test_trailing_commas_are_mended_without_touching_a_text(plan: Plan) -> None:
    body = with_trailing_commas(plan.model_dump())
    assert structured(body, Plan) == plan
    assert structured(f"Here you are:\n```json\n{body}\n```", Plan) == plan


@steady(150)
@given(plans.filter(lambda plan: printable(plan.model_dump())))
def test_python_s_quotes_and_words_are_mended_without_touching_a_text(plan: Plan) -> None:
    assert structured(repr(plan.model_dump()), Plan) == plan


@pytest.mark.parametrize(
    "said",
    [
        "gcc \\\n  -o x",
        "a \\\\\n b",
        "a regex like \\d+\\\\",
        'he said "hi", then left',
        "{'k': [1, 2]}",
        "it's",
        "a,}b",
    ],
)
def test_a_backslash_or_a_bracket_in_a_text_survives_the_mending(said: str) -> None:
    assert structured(f'{{"reason": {json.dumps(said)}, "score": 3,}}', Verdict) == Verdict(reason=said, score=3)
    assert structured(repr({"reason": said, "score": 3}), Verdict) == Verdict(reason=said, score=3)


def test_bare_line_breaks_inside_a_text_are_kept_to_the_last_one() -> None:
    reply = '{"reason": "def f():\n\treturn {1: 2}\n\n", "score": 3}'
    assert structured(reply, Verdict).reason == "def f():\n\treturn {1: 2}\n\n"


@pytest.mark.parametrize(
    "reply",
    [
        "{reason: 'fine', score: 3}",
        '{"reason": "fine" "score": 3}',
        '{"reason": "fine", "score": 3} // done',
        "{'reason': 'fine', 'score': '3'}",
    ],
)
def test_other_local_damage_is_mended_too(reply: str) -> None:
    assert structured(reply, Verdict) == Verdict(reason="fine", score=3)


def test_an_unescaped_quote_inside_a_text_hides_neither_its_end_nor_the_next_field() -> None:
    for said in ('he said "hi" and left', 'a "b" c} d'):
        assert structured(f'{{"reason": "{said}", "score": 3}}', Verdict) == Verdict(reason=said, score=3)


def test_an_apostrophe_in_an_unquoted_text_does_not_make_the_reply_look_cut() -> None:
    assert structured('{"reason": it\'s fine, "score": 3}', Verdict) == Verdict(reason="it's fine", score=3)


class Loose(BaseModel):
    reason: str
    score: int = 0


@pytest.mark.parametrize(
    "reply",
    [
        '{"reason": "say "x}" here", "score": 3}',
        '{"reason": "it is "f(x) = {1}" then", "score": 3}',
        '{"reason": "fine", /* why not */ "score": 3}',
    ],
)
def test_a_mending_that_would_lose_words_is_refused_and_the_teacher_is_asked_again(reply: str) -> None:
    with pytest.raises(ParseError, match="no valid JSON"):
        structured(reply, Loose)


class Anything(RootModel[dict[str, Any] | list[Any]]):
    pass


letters = st.text(st.sampled_from("\"',:\\ \nabcdé"), max_size=10)
simple = st.fixed_dictionaries({"text": letters, "tags": st.lists(letters, max_size=2), "inner": letters})


def words(text: str) -> str:
    """The letters of a JSON text, without those of its escapes for white space."""
    return "".join(re.findall(r"\w", re.sub(r"\\([nrtbf\\])", " ", text)))


@steady(250)
@given(simple, st.data())
def test_no_word_is_ever_lost_by_mending_a_damaged_reply(value: dict[str, Any], data: st.DataObject) -> None:
    body = json.dumps(value, ensure_ascii=False)
    place = data.draw(st.sampled_from([at for at, char in enumerate(body) if char not in "{}[]"]))
    kept = body[place + data.draw(st.integers(0, 1)) :]
    damaged = body[:place] + data.draw(st.sampled_from(["", *"\"',:\n"])) + kept
    try:
        found = structured(damaged, Anything).root
    except RecordError:
        return
    assert words(json.dumps(found, ensure_ascii=False)) == words(damaged)


def test_a_fenced_reply_is_found_behind_prose_that_holds_brackets() -> None:
    reply = 'As in [1], a set {a, b} is meant.\n```json\n{"reason": "fine", "score": 3}\n```\nSee [2].'
    assert structured(reply, Verdict) == Verdict(reason="fine", score=3)


def test_a_mended_reply_is_validated_by_the_rules_for_json() -> None:
    class Strict(BaseModel, strict=True):
        pair: tuple[int, int]
        kind: Literal["a", "b"]

    assert structured('{"pair": [1, 2], "kind": "a",}', Strict).pair == (1, 2)


# Of several values, the answer is read.

brackets = st.lists(
    st.sampled_from(["As in [1],", "a set {a, b}", "{see {x}}", "f(x) = {", "[sic]", "an empty {}", "]", "it's", "{"])
    | st.builds(json.dumps, st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3))),
    max_size=4,
).map(" ".join)


@steady(150)
@given(plans, layouts, brackets, brackets)
def test_a_fenced_reply_is_found_among_brackets_in_prose(
    plan: Plan, layout: dict[str, Any], before: str, after: str
) -> None:
    assert structured(f"{before}\n```json\n{dumped(plan, layout)}\n```\n{after.replace('{', '(')}", Plan) == plan


whole = st.lists(st.sampled_from(["As in [1],", "{a, b}", "{}", "[sic]", "]", '{"a": 1}', "it's"]), max_size=4).map(
    " ".join
)


@steady(150)
@given(plans, layouts, whole, whole)
def test_the_value_that_satisfies_the_model_is_found_among_others_in_prose(
    plan: Plan, layout: dict[str, Any], before: str, after: str
) -> None:
    assert structured(f"{before}\n{dumped(plan, layout)}\n{after}", Plan) == plan


@steady(80)
@given(plans, plans, layouts)
def test_the_last_of_several_valid_values_is_the_answer_and_a_fenced_one_goes_before_one_in_prose(
    draft: Plan, final: Plan, layout: dict[str, Any]
) -> None:
    one, other = dumped(draft, layout), dumped(final, layout)
    assert structured(f"At first {one}, or rather {other}. Good.", Plan) == final
    assert structured(f"```json\n{one}\n```\nor rather\n```json\n{other}\n```", Plan) == final
    assert structured(f"```json\n{other}\n```\nAt first I had {one}.", Plan) == final


@steady(30)
@given(plans, plans, layouts)
def test_a_draft_does_not_pass_for_the_answer_that_was_cut_behind_it(
    draft: Plan, final: Plan, layout: dict[str, Any]
) -> None:
    one, other = dumped(draft, layout), dumped(final, layout)
    for end in range(1, len(other), 3):
        for text in (f"At first {one}, or rather {other[:end]}", f"```json\n{one}\n```\nNo:\n```json\n{other[:end]}"):
            with pytest.raises(Truncated):
                structured(text, Plan)


def test_an_empty_object_in_prose_is_not_taken_for_the_answer_by_a_model_of_defaults() -> None:
    class Lax(BaseModel):
        score: int = 0

    assert structured('{"score": 5} and not {}, as {x} was', Lax).score == 5


def test_a_text_full_of_brackets_is_read_in_no_time() -> None:
    began = time.monotonic()
    for text in ("{a " * 20_000, "[1] {a: b, c} " * 5_000, "```\n{a\n```\n" * 3_000):
        with pytest.raises(RecordError):
            structured(text, Verdict)
    assert time.monotonic() - began < 10


# What was cut is never read.


@steady(60)
@given(plans, layouts)
def test_every_strict_prefix_of_a_reply_is_truncated(plan: Plan, layout: dict[str, Any]) -> None:
    body = dumped(plan, layout)
    for end in range(1, len(body)):
        with pytest.raises(Truncated):
            structured(body[:end], Plan)


@steady(40)
@given(plans, layouts, prose)
def test_every_cut_behind_prose_or_a_fence_is_truncated_also_when_the_fence_was_closed(
    plan: Plan, layout: dict[str, Any], before: str
) -> None:
    body = dumped(plan, layout)
    for end in range(1, len(body), 3):
        cut = body[:end]
        for text in (before + cut, f"{before}\n```json\n{cut}", f"```json\n{cut}\n```", cut + "\n\n"):
            with pytest.raises(Truncated):
                structured(text, Plan)


@steady(40)
@given(plans)
def test_every_cut_of_a_damaged_reply_is_truncated(plan: Plan) -> None:
    for body in (with_trailing_commas(plan.model_dump()), repr(plan.model_dump())):
        for end in range(1, len(body)):
            with pytest.raises(Truncated):
                structured(body[:end], Plan)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict | list))


@steady(80)
@given(trees, layouts)
def test_a_model_that_takes_anything_is_given_no_cut_value_either(tree: Any, layout: dict[str, Any]) -> None:
    body = json.dumps(tree, **layout)
    assert structured(body, Anything).root == tree
    for end in range(1, len(body)):
        with pytest.raises(Truncated):
            structured(body[:end], Anything)


def test_a_reply_cut_after_an_inner_object_does_not_pass_as_that_object() -> None:
    with pytest.raises(Truncated):
        structured('{"draft": {"reason": "fine", "score": 3}, "final": {"reason": "be', Verdict)
    with pytest.raises(Truncated):
        structured('[{"reason": "fine", "score": 3}, {"reason": "be', Verdict)


# What cannot be read has a name.


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("I would rather not say.", "no JSON object"),
        ("", "no JSON object"),
        ('{"reason": "fine"}', r"score: Field required"),
        ('{"reason": "fine", "score": "high"}', r"score: .*valid integer.*got 'high'"),
        ('{"reason": "\\ud83d alone", "score": 3}', "Invalid JSON"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ('{"reason": "fine", "score": ' + "1" * 5000 + ",}", "score"),
    ],
    ids=["prose", "nothing", "missing", "wrong", "half a character", "brackets", "braces", "endless number"],
)
def test_an_unreadable_reply_says_what_is_wrong_with_it(reply: str, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        structured(reply, Verdict)


junk = st.text(st.sampled_from(NASTY + "{}[]\"',:"), max_size=60) | st.text(max_size=40)
pieces = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "```json\n",
            "```",
            "\n",
            '{"reason": ',
            '"fine"',
            ', "score": 3',
            "}",
            "]",
            "[",
            "{",
            "\\",
        ]
    )
    | junk,
    max_size=8,
).map("".join)
completions = st.builds(
    Completion,
    text=pieces,
    reasoning=st.none() | junk,
    finish_reason=st.sampled_from([None, "stop", "length", "content_filter", "tool_calls", "?"]),
    refusal=st.none() | st.sampled_from(["", "I can't."]),
    usage=st.just(Usage(completion_tokens=3)),
)
policies = st.builds(
    Policy,
    truncated=st.sampled_from(["reject", "keep", "extend"]),
    refused=st.sampled_from(["reject", "keep"]),
    empty=st.sampled_from(["reject", "keep"]),
)


@steady(400)
@given(completions, policies, st.sampled_from([str, Verdict, Plan, Anything]))
def test_any_text_gives_a_value_of_the_wanted_type_or_a_record_error(
    completion: Completion, policy: Policy, kind: type[Any]
) -> None:
    try:
        found: Any = parse(completion, Request((Message("user", "?"),), kind, policy=policy)).value
    except RecordError as error:
        found = error
    if isinstance(found, RecordError):
        assert type(found) in (ParseError, Refused, Truncated, EmptyReply)
        assert str(found)
    else:
        assert isinstance(found, kind)
        assert completion.finish_reason != "length" or (kind is str and policy.truncated == "keep")


# Reasoning stands apart.

thoughts = st.text(st.sampled_from(NASTY + "<> "), max_size=20)


@steady(100)
@given(thoughts, thoughts, st.sampled_from(["<think>", "\n <think>", ""]))
def test_a_thinking_block_becomes_the_reasoning(thought: str, answer: str, opening: str) -> None:
    found = separate(Completion(f"{opening}{thought}</think>\n\n{answer}", finish_reason="stop"))
    assert found == Completion(answer.lstrip(), reasoning=thought.strip() or None, finish_reason="stop")


@steady(60)
@given(thoughts)
def test_a_thinking_block_that_never_ends_leaves_no_answer(thought: str) -> None:
    assert separate(Completion(f"<think>{thought}")) == Completion("", reasoning=thought.strip() or None)


@steady(60)
@given(thoughts)
def test_a_text_without_thinking_is_left_as_it_is(text: str) -> None:
    completion = Completion(text, reasoning="kept apart by the server")
    assert separate(completion) is completion


def test_thinking_in_the_text_is_added_to_what_the_server_kept_apart() -> None:
    found = separate(Completion("<think>second</think>yes", reasoning="first"))
    assert (found.text, found.reasoning) == ("yes", "first\n\nsecond")


def test_thinking_of_any_length_is_taken_apart_in_no_time() -> None:
    """Backtracking over leading white space once took seconds here, and minutes for a full context."""
    blank = " \n" * 30_000
    assert separate(Completion(f"{blank}<think>{'x' * 60_000}")).text == ""


def test_json_inside_the_thinking_is_not_the_answer() -> None:
    request = Request((Message("user", "?"),), Verdict)
    thinking = '<think>maybe {"reason": "draft", "score": 1}</think>'
    assert parse(Completion(thinking + '{"reason": "final", "score": 2}'), request).value.score == 2
    with pytest.raises(Truncated):
        parse(Completion(thinking + '{"reason": "final", "sc'), request)
    with pytest.raises(EmptyReply):
        parse(Completion('<think>maybe {"reason": "draft", "score": 1}'), request)


# What becomes of it is the policy's choice.


def outcome(completion: Completion, reply: type[Any] = str, **policy: Any) -> Any:
    try:
        return parse(completion, Request((Message("user", "?"),), reply, policy=Policy(**policy))).value
    except RecordError as error:
        return type(error)


CUT = Completion("once upon a", finish_reason="length")
REFUSED = Completion("", refusal="I can't help with that.", finish_reason="stop")
FILTERED = Completion("some", finish_reason="content_filter")
EMPTY = Completion(" \n", finish_reason="stop")


@pytest.mark.parametrize(
    ("completion", "policy", "wanted"),
    [
        (CUT, {}, Truncated),
        (CUT, {"truncated": "keep"}, "once upon a"),
        (CUT, {"truncated": "extend"}, Truncated),
        (REFUSED, {}, Refused),
        (REFUSED, {"refused": "keep"}, "I can't help with that."),
        (FILTERED, {}, Refused),
        (FILTERED, {"refused": "keep"}, "some"),
        (EMPTY, {}, EmptyReply),
        (EMPTY, {"empty": "keep"}, ""),
        (Completion("", finish_reason="length"), {}, Truncated),
        (Completion(" yes \n"), {}, "yes"),
    ],
)
def test_a_policy_decides_over_plain_text(completion: Completion, policy: dict[str, Any], wanted: Any) -> None:
    assert outcome(completion, **policy) == wanted


def test_no_policy_lets_half_a_typed_reply_or_an_empty_one_pass() -> None:
    whole = Completion('{"reason": "fine", "score": 3}', finish_reason="length")
    assert outcome(whole, Verdict, truncated="keep") is Truncated
    assert outcome(EMPTY, Verdict, empty="keep") is EmptyReply


def test_a_reply_keeps_its_text_its_reasoning_and_its_completion() -> None:
    found = parse(Completion("<think>hm</think> yes ", model="m"), Request((Message("user", "?"),), str))
    assert (found.value, found.text, found.reasoning, found.completion.model) == ("yes", "yes", "hm", "m")


# What is asked again.


def test_a_repair_turn_sends_the_reply_back_with_the_validation_error() -> None:
    request = Request((Message("system", "s"), Message("user", "?")), Verdict)
    again = repair_turn(request, '{"score": 9}', ParseError("reason: Field required"))
    assert again.messages[:2] == request.messages
    assert again.messages[2] == Message("assistant", '{"score": 9}')
    assert again.messages[3].role == "user"
    assert "reason: Field required" in again.messages[3].content
    assert again.key("t") != request.key("t")


def test_a_schema_in_the_prompt_stands_at_the_end_of_the_last_user_turn() -> None:
    talk = (Message("user", "first"), Message("assistant", "x"), Message("user", "last"), Message("assistant", "y"))
    found = with_schema(Request(talk, Verdict)).messages
    assert [message.content for message in found if message.role != "user"] == ["x", "y"]
    assert found[0].content == "first"
    assert found[2].content.startswith("last\n\n")
    assert json.loads(found[2].content.splitlines()[-1])["required"] == ["reason", "score"]


def test_a_plain_text_request_gets_no_schema() -> None:
    request = Request((Message("user", "?"),), str)
    assert with_schema(request) is request

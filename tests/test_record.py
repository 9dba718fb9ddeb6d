"""Records: immutable, with an id that is a digest of the content."""

import math
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthkd.message import Message
from synthkd.record import (
    Candidates,
    Conversation,
    Demonstration,
    Distribution,
    Instruction,
    Preference,
    Ranking,
    Record,
    Steps,
)

steady = settings(deadline=None, derandomize=True, max_examples=80)
texts = st.text(max_size=20)
ids = st.lists(st.text("0123456789abcdef", min_size=20, max_size=20), max_size=2).map(tuple)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
metas = st.dictionaries(texts, values, max_size=3)
prompts = texts | st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=3
).map(tuple)
common: dict[str, Any] = {"parents": ids, "meta": metas, "prompt": prompts}
records = st.one_of(
    st.builds(Instruction, **common),
    st.builds(Demonstration, **common, completion=texts, reasoning=st.none() | texts, weight=st.floats(0, 1)),
    st.builds(Preference, **common, chosen=texts, rejected=texts, score_chosen=st.none() | st.floats(1, 5)),
    st.builds(Candidates, **common, completions=st.lists(texts, min_size=1, max_size=3).map(tuple)),
)


class Word(Record):
    text: str


class Sum(Instruction):
    gold: int
    hint: str = ""


@steady
@given(records)
def test_a_record_read_back_from_json_is_equal_and_has_the_same_id(record: Record) -> None:
    again = type(record).model_validate_json(record.model_dump_json(exclude_defaults=True))
    assert again == record
    assert again.id == record.id
    assert again.parents == record.parents


@steady
@given(records, ids)
def test_parents_are_no_part_of_an_id(record: Record, parents: tuple[str, ...]) -> None:
    assert record.model_copy(update={"parents": parents}).id == record.id


@steady
@given(st.lists(st.tuples(texts, st.integers(0, 3)), min_size=2, max_size=2, unique=True))
def test_different_contents_have_different_ids(pair: list[tuple[str, int]]) -> None:
    one, other = (Demonstration(prompt=prompt, completion="x", weight=weight) for prompt, weight in pair)
    assert one.id != other.id


def test_the_same_fields_in_another_kind_are_another_record() -> None:
    class Saying(Record):
        text: str

    assert Saying(text="a").id != Word(text="a").id


def test_the_order_of_meta_is_no_part_of_an_id_but_its_content_is() -> None:
    one = Word(text="a", meta={"x": 1, "y": {"p": 1, "q": 2}})
    assert one.id == Word(text="a", meta={"y": {"q": 2, "p": 1}, "x": 1}).id
    assert one.id != Word(text="a", meta={"x": 1}).id


def test_a_field_with_a_default_that_is_added_later_leaves_ids_as_they_were() -> None:
    before = Word(text="a").id

    class Grown(Record):
        text: str
        language: str = "en"

    Grown.__name__ = "Word"
    assert Grown(text="a").id == before
    assert Grown(text="a", language="de").id != before


SETS = """
from typing import Any
from pydantic import BaseModel
from synthkd.data import row
from synthkd.record import Demonstration, Instruction
class Inner(BaseModel, frozen=True):
    words: frozenset[str]
class Tagged(Instruction):
    tags: set[str]
    groups: frozenset[frozenset[str]]
    inner: list[Inner]
    by_name: dict[str, set[str]]
    anything: Any
words = {f"tag {i}" for i in range(20)}
record = Tagged(
    prompt="a", tags=words, groups=frozenset({frozenset(words), frozenset({"x", "y", "z"})}),
    inner=[Inner(words=frozenset(words))], by_name={"n": words}, anything=[words],
)
made = Demonstration(prompt="a", completion="b", meta=record.carried())
print(record.id, made.id, list(record.variables()["tags"]), len(record.variables()["groups"]), row(record)["tags"])
"""


def test_a_set_s_order_is_no_part_of_an_id_nor_of_what_is_made_of_the_record() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_an_id_stays_what_it_was_in_the_runs_that_people_have() -> None:
    class Open(Record):
        anything: Any

    content = Open(anything={"b": [1, {"a": (2, 3)}], "a": {7}})
    assert content.id == Open(anything={"a": [7], "b": [1, {"a": [2, 3]}]}).id
    assert content.id == "f78ac20e5a1ab0c1f618"
    assert Sum(prompt="1 + 1", gold=2, meta={"topic": "sums"}).id == "4768908dbf1c9b9b9b75"


def test_a_record_cannot_be_changed_and_takes_no_unknown_field() -> None:
    record = Instruction(prompt="a")
    with pytest.raises(ValidationError, match="frozen"):
        record.prompt = "b"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="promt"):
        Instruction(prompt="a", promt="b")  # type: ignore[call-arg]


def test_a_changed_copy_has_its_own_id_and_its_own_messages() -> None:
    record = Instruction(prompt="a")
    assert record.messages == (Message("user", "a"),)
    assert record.id == Instruction(prompt="a").id  # both are remembered from here on
    copy = record.model_copy(update={"prompt": "b"})
    assert copy.messages == (Message("user", "b"),)
    assert copy.id == Instruction(prompt="b").id


@pytest.mark.parametrize("weight", [math.inf, -math.inf])
def test_an_infinite_number_survives_the_way_to_disk(weight: float) -> None:
    record = Demonstration(prompt="a", completion="b", weight=weight)
    assert Demonstration.model_validate_json(record.model_dump_json(exclude_defaults=True)) == record


def test_nan_survives_the_way_to_disk_and_does_not_become_a_missing_score() -> None:
    record = Preference(prompt="a", chosen="b", rejected="c", score_chosen=math.nan)
    again = Preference.model_validate_json(record.model_dump_json(exclude_defaults=True))
    assert again.score_chosen is not None
    assert math.isnan(again.score_chosen)


def test_a_text_prompt_is_one_user_turn_and_the_instruction_is_the_last_one() -> None:
    assert Instruction(prompt="a").messages == (Message("user", "a"),)
    talk = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
    assert Instruction(prompt=talk).messages == talk
    assert Instruction(prompt=talk).instruction == "c"
    assert Instruction(prompt=(Message("system", "s"),)).instruction == ""


def test_a_template_sees_fields_entries_of_meta_and_the_instruction_and_fields_go_first() -> None:
    seen = Sum(prompt="1 + 1", gold=2, meta={"topic": "sums", "gold": "hidden"}).variables()
    assert (seen["instruction"], seen["topic"], seen["gold"], seen["hint"]) == ("1 + 1", "sums", 2, "")


def test_what_a_subclass_adds_travels_in_meta_and_the_built_in_fields_do_not() -> None:
    assert Sum(prompt="1 + 1", gold=2, meta={"topic": "sums"}).carried() == {"topic": "sums", "gold": 2, "hint": ""}
    assert Demonstration(prompt="a", completion="b", meta={"topic": "sums"}).carried() == {"topic": "sums"}


def test_what_is_carried_on_is_a_copy() -> None:
    record = Instruction(prompt="a", meta={"topic": "sums"})
    record.carried()["topic"] = "other"
    assert record.meta == {"topic": "sums"}


def test_candidates_have_at_least_one_completion_and_a_reasoning_for_each_or_none_at_all() -> None:
    Candidates(prompt="a", completions=("b", "c"), reasonings=("r", None))
    with pytest.raises(ValidationError, match="1 reasonings for 2 completions"):
        Candidates(prompt="a", completions=("b", "c"), reasonings=("r",))
    with pytest.raises(ValidationError, match="completions"):
        Candidates(prompt="a", completions=())


def test_a_ranking_has_a_score_for_each_completion_and_the_best_first() -> None:
    assert Ranking(prompt="p", completions=("a", "b", "c"), scores=(2.0, 1.0, 1.0)).scores == (2.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="2 scores for 3 completions"):
        Ranking(prompt="p", completions=("a", "b", "c"), scores=(2.0, 1.0))
    with pytest.raises(ValueError, match="put the best completion first"):
        Ranking(prompt="p", completions=("a", "b"), scores=(1.0, 2.0))


def test_steps_have_a_label_each() -> None:
    with pytest.raises(ValueError, match="1 labels for 2 steps"):
        Steps(prompt="p", completions=("a", "b"), labels=(True,))


def test_a_distribution_tells_of_every_token() -> None:
    kept = Distribution(
        prompt="p", completion="ab", tokens=("a", "b"), top_tokens=(("a",), ("b",)), top_logprobs=((-0.1,), (-0.2,))
    )
    assert kept.tokens == ("a", "b")
    with pytest.raises(ValueError, match="2 tokens, 1 lists"):
        Distribution(
            prompt="p", completion="ab", tokens=("a", "b"), top_tokens=(("a",),), top_logprobs=((-0.1,), (0.0,))
        )
    with pytest.raises(ValueError, match="or fewer"):
        Distribution(prompt="p", completion="a", tokens=("a",), top_tokens=(("a", "b"),), top_logprobs=((-0.1,),))


def test_a_conversation_keeps_tool_calls_and_results_through_a_run_file() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turns = (Message("user", "1+1?"), Message("assistant", "", (call,)), Message("tool", "2", tool_call_id="1"))
    whole = Conversation(messages=turns, tools=({"type": "function", "function": {"name": "add"}},))
    assert Conversation.model_validate_json(whole.model_dump_json(exclude_defaults=True)) == whole


def test_a_demonstration_without_privileged_context_has_the_id_it_always_had() -> None:
    plain = Demonstration(prompt="p", completion="c")
    assert plain.id == Demonstration(prompt="p", completion="c", privileged_context=None).id
    assert plain.id != Demonstration(prompt="p", completion="c", privileged_context="a hint").id

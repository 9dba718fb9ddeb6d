"""Expansion: what teachers write after the model of what is there, and what of it is thrown away."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction, Labelled, Record
from synthkd.request import Completion, Policy, Request
from synthkd.run import Run
from synthkd.seeds import pool
from synthkd.strategies import Demonstrate, Examples, ForLabel, Instances, IsClassification, Paraphrase, SelfInstruct
from synthkd.strategies.expansion import draw
from synthkd.strategies.listing import Listed, entries
from synthkd.testing import FunctionTeacher, SchemaTeacher

Start = Callable[..., Run]
HUGE = "ünï " * 250_000
SHOWN = Examples(instructions=("Name a tree.", "Sort 3, 1, 2."))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Opens a run: `start(answer)`, in a folder of its own or in a given one."""
    opened: list[Run] = []

    def run(answer: Any = None, folder: str | None = None) -> Run:
        teacher = FunctionTeacher(answer) if answer else SchemaTeacher()
        opened.append(Run(tmp_path / (folder or f"run{len(opened)}"), teacher=teacher, quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def calls(run: Run) -> list[Request[Any]]:
    teacher = run.roles["teacher"]
    assert isinstance(teacher, FunctionTeacher)
    return teacher.calls


def listed(*items: str) -> Callable[[Request[Any]], str]:
    return lambda _: json.dumps({"items": items})


def items(*rows: dict[str, str]) -> Callable[[Request[Any]], str]:
    return lambda _: json.dumps({"items": rows})


EVERY: dict[str, tuple[Any, Record]] = {
    "SelfInstruct": (SelfInstruct(n=2), Examples(instructions=("Näme a tree 🌳.", HUGE))),
    "IsClassification": (IsClassification(), Instruction(prompt=HUGE)),
    "Instances": (Instances(), Instruction(prompt="Add ½.")),
    "Demonstrate": (Demonstrate(n=2), SHOWN),
    "Paraphrase": (Paraphrase(2), Labelled(text="Träge 🌳", label="tree")),
    "ForLabel": (ForLabel(2), next(pool(label=["gut"], subject=["Bücher"]))),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_replays_to_the_same_rows_without_a_call(start: Start, name: str) -> None:
    strategy, record = EVERY[name]
    first = start(folder="one")
    rows = [row.model_dump() for row in first.map(strategy, [record])]
    assert rows
    assert all(row["parents"] == (record.id,) for row in rows)
    assert calls(first)
    first.close()
    again = start(folder="one")
    assert [row.model_dump() for row in again.map(strategy, [record])] == rows
    assert calls(again) == []


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_takes_no_records_and_loses_none_to_unreadable_replies(start: Start, name: str) -> None:
    strategy, record = EVERY[name]
    run = start(lambda _: "I would rather {")
    assert len(run.map(strategy, [])) == 0
    stage = run.map(strategy, [record])
    assert (stage.ledger.records_in, stage.ledger.records_out) == (1, 0)
    assert sum(stage.ledger.rejected.values()) == 1


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_refuses_a_template_that_wants_something_else(start: Start, tmp_path: Path, name: str) -> None:
    strategy, record = EVERY[name]
    path = tmp_path / "mine.jinja"
    path.write_text("{# variables: nowhere; source: this test #}{% block user %}{{ nowhere }}{% endblock %}")
    run = start()
    with pytest.raises(PromptError, match="wants 'nowhere'"):
        run.map(type(strategy)(prompt=Prompt(path, strategy.prompt.reply)), [record])
    assert calls(run) == []


@pytest.mark.parametrize("strategy", [SelfInstruct, Instances, Demonstrate, Paraphrase, ForLabel])
def test_asking_for_nothing_is_refused(strategy: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(n=0\): at least 1 is needed"):
        strategy(n=0)


# Self-Instruct.


def test_new_instructions_carry_their_lineage_and_leave_out_what_is_known(start: Start) -> None:
    run = start(listed("Name a river.", "  name a  TREE. ", "", "Name a river.", "Draw up a plan.", "One too many."))
    shown = SHOWN.model_copy(update={"meta": {"round": 1}})
    stage = run.map(SelfInstruct(n=2), [shown])
    assert [row.prompt for row in stage] == ["Name a river.", "Draw up a plan."]
    assert {row.parents for row in stage} == {(shown.id,)}
    assert stage[0].meta == {"round": 1}
    assert stage.ledger.dropped == {"repeated entry": 2, "blank entry": 1, "more than asked for": 1}
    said = calls(run)[0].messages[-1].text
    assert "1. Name a tree.\n2. Sort 3, 1, 2." in said
    assert "Write 2 new ones" in said


def test_a_reply_with_nothing_new_rejects_its_examples(start: Start) -> None:
    assert start(listed("Name a tree.")).map(SelfInstruct(), [SHOWN]).ledger.rejected == {"nothing new": 1}


def test_hints_are_drawn_by_the_record_and_travel_along(start: Start) -> None:
    strategy = SelfInstruct(hints=["bees", "tax", "opera", "rust"], hints_k=2)
    run = start()
    rows = run.map(strategy, [SHOWN, Examples(instructions=("Name a star.",))])
    drawn = {tuple(row.meta["hints"]) for row in rows}
    assert len(drawn) == 2
    assert all(len(set(hints)) == 2 for hints in drawn)
    assert all(", ".join(hints) in "".join(call.messages[-1].text for call in calls(run)) for hints in drawn)


def test_the_plain_template_that_the_tiny_teacher_knows_works_as_well(start: Start) -> None:
    run = start(lambda _: "Name a flower.")
    [row] = run.map(SelfInstruct(prompt=Prompt("expansion/imitate", str)), [SHOWN])
    assert row.prompt == "Name a flower."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. a\n2) b\nmore b\n10. c", ["a\n", "b\nmore b\n", "c"]),
        ("\n 3. alone", ["alone"]),
        ("Rank these:\n1. x\n2. y", ["Rank these:\n1. x\n2. y"]),
        ("3.5 is what?", ["3.5 is what?"]),
    ],
)
def test_plain_text_is_a_list_only_where_it_begins_as_one(text: str, found: list[str]) -> None:
    assert entries(text) == found
    assert entries(Listed(items=["1. kept as it is"])) == ["1. kept as it is"]


def instructions(prefix: str, n: int) -> list[Instruction]:
    return [Instruction(prompt=f"{prefix}{i}") for i in range(n)]


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 6), st.integers(0, 6), st.integers())
def test_grown_examples_that_are_missing_are_made_up_from_human_ones(
    humans: int, grown: int, human_k: int, grown_k: int, seed: int
) -> None:
    pools = instructions("h", humans), instructions("g", grown)
    wanted = min(grown_k, grown)
    of_human = min(human_k + grown_k - wanted, humans)
    if not wanted + of_human:
        with pytest.raises(ConfigError, match="gives no example"):
            draw(*pools, Random(seed), human_k, grown_k)
        return
    found = draw(*pools, Random(seed), human_k, grown_k)
    assert found == draw(*pools, Random(seed), human_k, grown_k)
    assert len(set(found.instructions)) == len(found.instructions) == len(found.parents)
    assert sum(text[0] == "g" for text in found.instructions) == wanted
    assert sum(text[0] == "h" for text in found.instructions) == of_human
    ids = {one.prompt: one.id for one in [*pools[0], *pools[1]]}
    assert tuple(ids[text] for text in found.instructions) == found.parents


def test_examples_are_shuffled_and_keep_their_completions_where_all_have_one() -> None:
    humans = [Demonstration(prompt=f"{i}?", completion=f"{i}!") for i in range(6)]
    drawn = [draw(humans, [], Random(seed)) for seed in range(20)]
    assert len({one.instructions for one in drawn}) > 10
    assert all(a[0] == b[0] for one in drawn for a, b in zip(one.instructions, one.completions, strict=True))
    mixed = draw(humans, [Instruction(prompt="x?")], Random(0))
    assert len(mixed.instructions) == 7
    assert mixed.completions == ()


def test_self_instruct_draws_with_its_own_numbers() -> None:
    found = SelfInstruct(human_k=3, grown_k=1).draw(instructions("h", 9), instructions("g", 9), Random(0))
    assert sorted(text[0] for text in found.instructions) == ["g", "h", "h", "h"]
    alpaca = Demonstrate().draw(instructions("h", 9), instructions("g", 9), Random(0))
    assert [text[0] for text in alpaca.instructions] == ["h"] * 3


# Instances.


def test_a_classification_gets_its_labels_and_stays_the_kind_it_was(start: Start) -> None:
    class Mine(Instruction):
        level: int

    reply = json.dumps({"classification": True, "labels": ["yes", "", "no", "yes"]})
    record = Mine(prompt="Is it a tree?", level=3)
    [row] = start(lambda _: reply).map(IsClassification(), [record])
    assert row == Mine(
        parents=(record.id,), prompt="Is it a tree?", level=3, meta={"classification": True, "labels": ["yes", "no"]}
    )


def test_an_open_instruction_gets_inputs_first(start: Start) -> None:
    run = start(
        items(
            {"input": "2 and 3", "output": "5"},
            {"input": "2 and 3", "output": " 5 "},
            {"input": "", "output": "7"},
            {"input": "same", "output": "Same"},
            {"input": "x", "output": ""},
            {"input": "y", "output": "The sum is:"},
        )
    )
    stage = run.map(Instances(), [Instruction(prompt="Add up.", meta={"by": "me"})])
    assert [(row.prompt, row.completion) for row in stage] == [("Add up.\n\n2 and 3", "5"), ("Add up.", "7")]
    assert stage[0].meta == {"by": "me", "input": "2 and 3"}
    assert stage.ledger.dropped == {"repeated entry": 1, "output is the input": 1, "no output": 1, "output is cut": 1}
    assert [call.prompt.split("@")[0] for call in calls(run)] == ["expansion/input_first"]


def test_a_classification_gets_labels_first(start: Start) -> None:
    run = start(items({"label": "yes", "input": "oak"}, {"label": "no", "input": "bee"}))
    record = Instruction(prompt="A tree?", meta={"classification": True, "labels": ["yes", "no"]})
    stage = run.map(Instances(n=2), [record])
    assert [(row.prompt, row.completion) for row in stage] == [("A tree?\n\noak", "yes"), ("A tree?\n\nbee", "no")]
    [call] = calls(run)
    assert call.prompt.startswith("expansion/output_first@")
    assert "[Labels]\nyes\nno" in call.messages[-1].text
    assert next(iter(call.reply.model_json_schema()["$defs"]["LabelledInstance"]["properties"])) == "label"


def test_an_instruction_whose_instances_contradict_each_other_is_rejected(start: Start) -> None:
    run = start(items({"input": "oak", "output": "yes"}, {"input": "Oak ", "output": "no"}))
    assert run.map(Instances(), [Instruction(prompt="A tree?")]).ledger.rejected == {"contradicts itself": 1}


def test_two_outputs_without_an_input_are_two_instances(start: Start) -> None:
    run = start(items({"input": "", "output": "oak"}, {"input": "", "output": "elm"}))
    assert [row.completion for row in run.map(Instances(), [Instruction(prompt="A tree?")])] == ["oak", "elm"]


def test_instances_without_any_output_reject_the_instruction(start: Start) -> None:
    stage = start(items({"input": "oak", "output": ""})).map(Instances(), [Instruction(prompt="A tree?")])
    assert (stage.ledger.rejected, stage.ledger.dropped) == ({"no instance": 1}, {"no output": 1})


def test_instruction_input_and_output_come_in_one_call(start: Start) -> None:
    rows = (
        {"instruction": "Name a tree.", "input": "", "output": "Oak."},
        {"instruction": "Translate.", "input": "Baum", "output": "tree"},
        {"instruction": "Say hi.", "input": "", "output": "Hi"},
    )
    run = start(items(*rows))
    shown = SHOWN.model_copy(update={"completions": ("Elm.", "1, 2, 3")})
    stage = run.map(Demonstrate(n=2), [shown])
    assert [(row.prompt, row.completion) for row in stage] == [("Translate.\n\nBaum", "tree"), ("Say hi.", "Hi")]
    assert stage[0].meta == {"input": "Baum"}
    assert "### 2\nInstruction: Sort 3, 1, 2.\nOutput: 1, 2, 3" in calls(run)[0].messages[-1].text
    assert stage.ledger.dropped == {"repeated entry": 1}
    assert run.map(Demonstrate(n=2), [SHOWN.model_copy(update={"instructions": ("Say.",)})]).ledger.dropped == {}


# Paraphrases.


def test_a_paraphrase_keeps_label_and_kind(start: Start) -> None:
    record = Labelled(text="My knee hurts.", label="knee", soft_label={"knee": 0.9, "hip": 0.1}, meta={"split": "few"})
    stage = start(listed("The knee aches.", "my knee  hurts.", "Pain in my knee.")).map(Paraphrase(2), [record])
    assert [row.text for row in stage] == ["The knee aches.", "Pain in my knee."]
    assert all(row == record.model_copy(update={"text": row.text, "parents": (record.id,)}) for row in stage)


def test_a_paraphrase_changes_the_last_user_turn_and_keeps_its_pictures(start: Start) -> None:
    picture = Image("https://example.org/tree.png")
    talk = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", ("What is this?", picture)))
    run = start(listed("What does it show?"))
    [row] = run.map(Paraphrase(), [Demonstration(prompt=talk, completion="A tree.")])
    assert row.prompt == (*talk[:2], Message("user", (picture, "What does it show?")))
    assert row.completion == "A tree."


def test_a_record_without_text_is_rejected_before_anybody_is_asked(start: Start) -> None:
    run = start()
    assert run.map(Paraphrase(), [Labelled(text=" ", label="a")]).ledger.rejected == {"no text": 1}
    with pytest.raises(ConfigError, match="expected a record with prompt or text"):
        run.map(Paraphrase(), [SHOWN])
    assert calls(run) == []


# Text for labels.


def test_text_is_written_for_a_label_with_what_else_the_record_offers(start: Start) -> None:
    run = start(listed("A fine film.", "Well acted."))
    seeds = list(pool(label=["positive"], subject=["Casablanca"], description=["The reviewer liked it."]))
    stage = run.map(ForLabel(2, examples=["It was long.", "It rains."]), seeds)
    assert stage[0] == Labelled(
        parents=(seeds[0].id,),
        text="A fine film.",
        label="positive",
        meta={"subject": "Casablanca", "description": "The reviewer liked it."},
    )
    said = calls(run)[0].messages[-1].text
    assert all(part in said for part in ('class "positive"', "Casablanca", "The reviewer liked it.", "- It rains."))


def test_a_given_text_gets_its_second_one(start: Start) -> None:
    run = start(listed("Somebody is outside."))
    [row] = run.map(ForLabel(1), pool(label=["entailment"], text=["A man walks in the park."]))
    assert (row.text, row.text_pair, row.label) == ("A man walks in the park.", "Somebody is outside.", "entailment")
    assert row.meta == {}


def test_a_record_without_a_label_is_refused(start: Start) -> None:
    with pytest.raises(PromptError, match="wants 'label'"):
        start().map(ForLabel(), pool(subject=["Casablanca"]))


def test_a_reply_that_was_cut_rejects_its_record(start: Start) -> None:
    cut = Completion('{"items": ["Name a river.", "Na', finish_reason="length")
    stage = start(lambda _: cut).map(SelfInstruct(policy=Policy(repairs=0)), [SHOWN])
    assert stage.ledger.rejected == {"truncated": 1}
